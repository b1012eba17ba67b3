"""Names that nobody can guess, cut from blocks of random characters: to ask the kernel for each takes a system call."""

from os import urandom

BLOCK_BYTES = 4096


class Names:
    """Makes names of `length` characters, each of them one of `alphabet` with equal chance."""

    def __init__(self, alphabet: str, length: int) -> None:
        size = len(alphabet)
        usable = 256 - 256 % size
        self._length = length
        self._characters = alphabet.encode() * (usable // size) + b"\0" * (256 - usable)
        # Beyond the last whole turn through the alphabet, its first characters would come more often than the others.
        self._unfair = bytes(range(usable, 256))
        self._block = ""
        self._at = 0

    def new(self) -> str:
        """A name never given before."""
        begin, end = self._at, self._at + self._length
        while end > len(self._block):
            fresh = urandom(BLOCK_BYTES).translate(self._characters, self._unfair)
            self._block = self._block[begin:] + fresh.decode()
            begin, end = 0, self._length
        self._at = end
        return self._block[begin:end]
