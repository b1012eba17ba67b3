"""Scripts: the Lua files that Redis runs for us, each all or nothing."""

import hashlib
from importlib import resources


class Script:
    """One script; Redis knows it by `sha` once it has been loaded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = resources.files("gateway.stores").joinpath("lua", f"{name}.lua").read_bytes()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"<Script {self.name}>"
