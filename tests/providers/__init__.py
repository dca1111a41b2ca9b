"""One file a service: what is asked, what is read, its errors, one whole conversation."""
