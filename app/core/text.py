"""Makes text fit to be kept."""


def storable(text: str, limit: int) -> str:
    r"""The text, cut to `limit` characters, as something that JSON and MongoDB can both hold.

    A Python string may carry lone surrogates (from `os.fsdecode`, a header that is not UTF-8, `"\ud800"` in JSON).
    UTF-8 has no form for them, so the write of the whole document would fail; each becomes a `?`.
    """
    return text[:limit].encode("utf-8", "replace").decode("utf-8")
