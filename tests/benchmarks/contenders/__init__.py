"""Those who are compared, each in a file, with an `Asker` that has the same few methods.

``stream`` yields pieces of text as they come, ``call`` returns the text of an answer in one piece,
and an `Asker` serves many threads at once.  Only the package that a file is about is loaded by it.
"""
