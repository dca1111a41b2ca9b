"""A small conversational brain: no model, only patterns, and the same answer every time.

It answers from the whole history: it remembers a name it was told, comes back to earlier words,
and keeps to one sentence when the system message asks for brevity.
"""

from __future__ import annotations

from collections.abc import Sequence
import re
from typing import Any
from zlib import crc32

from .service import Messages

_NAME = {
    "en": re.compile(r"\b(?:my name is|i am called|call me)\s+([^\W\d_][\w-]*)", re.I),
    "ru": re.compile(r"\b(?:меня зовут|мо[её] имя|зови меня)\s+([^\W\d_][\w-]*)", re.I),
}
_TELLS_NAME = {"en": "Nice to meet you, {}. What shall we talk about?",
               "ru": "Приятно познакомиться, {}. О чём поговорим?"}
_ASKS_NAME = {"en": re.compile(r"\b(?:what(?:'s| is) my name|who am i)\b", re.I),
              "ru": re.compile(r"\b(?:как меня зовут|кто я)\b", re.I)}
_KNOWS_NAME = {"en": "Your name is {}. You told me so.",
               "ru": "Вас зовут {}. Вы сами мне сказали."}
_NO_NAME = {"en": "You have not told me your name yet.",
            "ru": "Вы ещё не сказали, как вас зовут."}
_RESULT = {"en": "The function {} returned {}.", "ru": "Функция {} вернула {}."}
_LISTENS = {"en": "I am listening. What would you like to talk about?",
            "ru": "Я слушаю. О чём вы хотите поговорить?"}
_ASKED_AGAIN = {"en": "You asked that before. Has something changed since?",
                "ru": "Вы уже спрашивали об этом. Что-то изменилось?"}
_EARLIER = {"en": " Earlier you said: \"{}\". Is that connected?",
            "ru": " Раньше вы говорили: «{}». Это связано?"}
_RULES = {
    "en": (
        (r"\b(?:hi|hello|hey|good (?:morning|evening))\b",
         ("Hello! How can I help you today?", "Hello! What is on your mind?")),
        (r"\bi (?:want|need) (?:to )?(.+)", ("What would it mean to you to get this: {}?",)),
        (r"\bi(?: am|'m) (.+)", ("How long have you been {}?", "Why are you {}?")),
        (r"\bi feel (.+)", ("Do you often feel {}?",)),
        (r"\b(?:thanks|thank you)\b", ("You are welcome. Anything else?",)),
        (r"\bcount to (\d+)", ("COUNT",)),
        (r"\?\s*$", ("A good question. What do you think yourself?",
                     "That depends. What would you like to hear?")),
        (r"", ("I see. Please go on.", "Tell me more about that.", "And what follows from that?")),
    ),
    "ru": (
        (r"\b(?:привет|здравствуй(?:те)?|добрый (?:день|вечер))\b",
         ("Здравствуйте! Чем могу помочь?", "Привет! О чём вы думаете?")),
        (r"\b(?:я хочу|мне нужно|мне нужен|мне нужна) (.+)", ("Зачем вам это: {}?",)),
        (r"\bя чувствую (.+)", ("Часто ли вы это чувствуете: {}?",)),
        (r"\bспасибо\b", ("Пожалуйста. Что-нибудь ещё?",)),
        (r"\bсч[её]т до (\d+)|посчитай до (\d+)", ("COUNT",)),
        (r"\?\s*$", ("Хороший вопрос. А что думаете вы сами?", "Смотря как посмотреть.")),
        (r"",
         ("Понимаю. Продолжайте.", "Расскажите об этом подробнее.", "И что из этого следует?")),
    ),
}
_BRIEF = re.compile(r"\b(?:brief|short|concise|кратк\w*|коротк\w*)\b", re.I)
_MOST_COUNTED = 1000
_DEEP = 4  # a schema may refer to itself: from here on lists are empty, and null if allowed


def think(messages: Messages) -> str:
    """Return an answer to a conversation.

    Args:
        messages: ``{"role", "content"}`` in order; any roles, also none at all.

    Returns:
        A sentence or two, in Russian if the last words of the user are.
    """
    answer = _answer(messages)
    system = " ".join(m["content"] for m in messages if m["role"] == "system")
    return re.split(r"(?<=[.!?]) ", answer)[0] if _BRIEF.search(system) else answer


def _answer(messages: Messages) -> str:
    spoken = [m["content"].strip() for m in messages if m["role"] == "user"]
    text = spoken[-1] if spoken else ""
    tongue = "ru" if re.search("[а-яё]", text, re.I) else "en"
    if messages and messages[-1]["role"] in ("function", "tool"):
        return _RESULT[tongue].format(messages[-1].get("name", ""), messages[-1]["content"])
    if not text:
        return _LISTENS[tongue]
    return _about_names(text, spoken, tongue) or _reflect(text, spoken[:-1], tongue)


def _about_names(text: str, spoken: Sequence[str], tongue: str) -> str:
    names = [m[1] for line in spoken for pattern in _NAME.values() if (m := pattern.search(line))]
    if _NAME[tongue].search(text):
        return _TELLS_NAME[tongue].format(names[-1])
    if not _ASKS_NAME[tongue].search(text):
        return ""
    return _KNOWS_NAME[tongue].format(names[-1]) if names else _NO_NAME[tongue]


def _reflect(text: str, earlier: Sequence[str], tongue: str) -> str:
    if text in earlier:
        return _ASKED_AGAIN[tongue]
    for pattern, answers in _RULES[tongue]:
        if match := re.search(pattern, text, re.I):
            break
    answer = answers[crc32(text.encode("utf-8", "replace")) % len(answers)]
    found = next((group for group in match.groups() if group), "") if match else ""
    if answer == "COUNT":
        return ", ".join(str(n + 1) for n in range(min(int(found), _MOST_COUNTED))) + "."
    if earlier and pattern == "":
        return answer + _EARLIER[tongue].format(earlier[-1].split("\n")[0][:80])
    return answer.format(found.rstrip(" .!?"))


def arguments(schema: object, messages: Messages) -> dict[str, Any]:
    """Return arguments for a function, one for each property of its JSON Schema.

    Texts are the last word of the user's last message, or the first of the schema's choices.
    """
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return {}
    word = _heard(messages)
    return {name: _example(kind, word, schema) for name, kind in properties.items()}


def example(schema: object, messages: Messages) -> Any:
    """Return a value that fits a JSON Schema, made of the user's words as `arguments` are."""
    return _example(schema, _heard(messages), schema)


def _heard(messages: Messages) -> str:
    spoken = [m["content"] for m in messages if m["role"] == "user"]
    found: list[str] = re.findall(r"[\w-]+", spoken[-1]) if spoken else []
    return found[-1] if found else ""


def _example(kind: object, word: str, root: object, depth: int = 0) -> Any:
    if not isinstance(kind, dict) or depth > 2 * _DEEP:
        return word
    if "const" in kind:
        return kind["const"]
    if choices := kind.get("enum"):
        return choices[0]
    if isinstance(reference := kind.get("$ref"), str):
        return _example(_looked_up(root, reference), word, root, depth + 1)
    if options := kind.get("anyOf") or kind.get("oneOf") or kind.get("allOf"):
        nothing = {"type": "null"} in options and depth > _DEEP
        return None if nothing else _example(options[0], word, root, depth + 1)
    name = kind.get("type")
    name = name[0] if isinstance(name, list) and name else name
    if properties := kind.get("properties"):
        return {key: _example(inner, word, root, depth + 1) for key, inner in properties.items()}
    if name == "array":
        least = kind.get("minItems") or int("items" in kind and depth <= _DEEP)
        return [_example(kind.get("items"), word, root, depth + 1)] * least
    if name in ("integer", "number"):
        return max(1 if name == "integer" else 1.5, kind.get("minimum", 1))
    plain: dict[object, Any] = {"boolean": True, "object": {}, "null": None}
    return plain.get(name, word)


def _looked_up(root: object, reference: str) -> object:
    """Return what a local reference such as ``#/$defs/Place`` names, None if nothing."""
    found: object = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            found = found.get(step) if isinstance(found, dict) else None
    return found
