"""The walk from any Python object to a digest of all that it holds.

An object is written as a stream of tagged, length-prefixed parts. What pickle would rebuild it
from is what it is; pickle's bytes themselves are not used, since they change with the hash seed
and with the lines of the source. What pickle refuses has no readable value, and neither has a key.

How a kind of object is written is registered with `rule` by the modules of this package.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cloudposterior.errors import TokenError
from cloudposterior.identity.arrays import DIGEST_SIZE
from cloudposterior.identity.origin import named_origin

__all__ = ["Stream", "Walk", "rule", "write"]


class Walk:
    """One walk over a model, with what has been seen on the way.

    Attributes
    ----------
    digests : dict
        Digest by ``id`` of what was walked as a whole; `alive` keeps these objects.
    trail : list of str
        Where the walk stands, in words, for the message of a refusal.
    scope : object or None
        The graph of the model under way (see `identity.graph`).
    held : Scope or None
        The same for variables that are met inside other objects.
    models : list
        Models under way, outermost first: a function may well read the model it is part of.
    tensor_types : dict
        Digest of a tensor type by dtype and shape.
    """

    def __init__(self) -> None:
        self.digests: dict[tuple[int, str], bytes] = {}
        self.alive: list[object] = []
        self.trail: list[str] = []
        self.scope: object = None
        self.held: object = None
        self.models: list[object] = []
        self.tensor_types: dict[object, bytes] = {}
        self._open: list[tuple[int, str]] = []
        self._reached = 0
        self._first_met: dict[int, bytes] = {}
        self.begin("")
        self._unclosed = 0

    def begin(self, place: str) -> None:
        """Say which part of a model is walked now (see `first_met`)."""
        self._place = place.encode("utf-8", "surrogatepass")
        self._met_here = 0

    def first_met(self, obj: object) -> bytes:
        """Name an object of which only the identity counts by where it was met first.

        The name has the part of the model in it, so that a variable put in before does not rename
        what is met behind it.
        """
        name = self._first_met.get(id(obj))
        if name is None:
            name = b"%d in %s" % (self._met_here, self._place)
            self._first_met[id(obj)] = name
            self._met_here += 1
            self.alive.append(obj)
        return name

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Name the place where the walk stands while the block is open."""
        self.trail.append(place)
        try:
            yield
        finally:
            self.trail.pop()

    def refuse(self, reason: str) -> TokenError:
        """Make the error that says what has no token, and where it is."""
        where = " > ".join(self.trail)
        return TokenError(f"{where}: {reason}" if where else reason)

    def digest(
        self, obj: object, content: Callable[[Stream], None] | None = None, kind: str = ""
    ) -> bytes:
        """Digest an object as a whole, once.

        Parameters
        ----------
        obj : object
            What to walk.
        content : callable, optional
            Writes the object to the stream it is given; None means `write`.
        kind : str
            Tells apart two ways of looking at one object.

        Returns
        -------
        bytes
            16 bytes. An object met again inside itself is written as how far up it stands.
        """
        key = id(obj), kind
        known = self.digests.get(key)
        if known is not None:
            return known
        if key in self._open:
            position = self._open.index(key)
            self._reached = min(self._reached, position)
            return b"above" + (len(self._open) - position).to_bytes(4, "little")
        depth = len(self._open)
        outer, self._reached = self._reached, depth
        self._open.append(key)
        stream = Stream(self)
        try:
            if content is None and type(obj) in BY_VALUE:
                write(obj, stream)
            elif content is None:
                stream.write(obj)
            else:
                content(stream)
        except RecursionError:
            raise self.refuse(f"{type(obj).__name__} is nested too deep to be read") from None
        finally:
            self._open.pop()
            closed = self._reached >= depth
            self._reached = min(outer, self._reached)
        result = stream.digest()
        self.alive.append(obj)
        if closed:
            self.digests[key] = result
            return result
        # what refers to something above it means another thing elsewhere, and is walked again
        self._unclosed += 1
        if self._unclosed > _MOST_UNCLOSED:
            raise self.refuse("too many objects refer to one another in circles")
        return result

    def value(self, obj: object) -> bytes:
        """Digest an object by what it holds now, whether or not it was met before."""
        stream = Stream(self)
        try:
            stream.write(obj)
        except RecursionError:
            raise self.refuse(f"{type(obj).__name__} is nested too deep to be read") from None
        return stream.digest()


class Stream:
    """The parts of one object, in order.

    Attributes
    ----------
    walk : Walk
        The walk this stream is part of.
    """

    __slots__ = ("_parts", "_seen", "walk")

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self._parts: list[bytes] = []
        self._seen: dict[int, int] = {}

    def put(self, tag: bytes, value: bytes = b"") -> None:
        """Append a tagged part."""
        self._parts.append(b"%s:%d:" % (tag, len(value)))
        self._parts.append(value)

    def text(self, tag: bytes, value: str) -> None:
        """Append a tagged string."""
        self.put(tag, value.encode("utf-8", "surrogatepass"))

    def write(self, obj: Any) -> None:
        """Append an object by what it holds."""
        atom = ATOMS.get(type(obj))
        if atom is not None:
            atom(self, obj)
        elif type(obj) in BY_VALUE:
            if all(type(item) in ATOMS for item in obj):
                write(obj, self)
            else:
                # by digest: written out, tuples that share parts would double at each level
                self.put(b"value", self.walk.digest(obj))
        elif (isinstance(obj, _NAMED) and named_origin(obj)) or not self.met(obj):
            blind = REFUSED.get(id(obj))
            if blind is not None:
                raise self.walk.refuse(
                    f"it uses {blind}, and what that gives cannot be told beforehand: "
                    "read it first and hand over the value"
                )
            write(obj, self)

    def met(self, obj: object) -> bool:
        """Append a reference if the object is in this stream already, and say so."""
        number = self._seen.get(id(obj))
        if number is None:
            self._seen[id(obj)] = len(self._seen)
            # many objects on the way are made for the occasion: their ids must not be taken again
            self.walk.alive.append(obj)
            return False
        self.put(b"again", number.to_bytes(4, "little"))
        return True

    def branch(self) -> Stream:
        """Start a stream that knows what is in this one, without adding to it."""
        other = Stream(self.walk)
        other._seen = dict(self._seen)
        return other

    def digest(self) -> bytes:
        """Digest all that was appended."""
        return hashlib.blake2b(b"".join(self._parts), digest_size=DIGEST_SIZE).digest()


Rule = Callable[[Any, "Stream"], None]
_RULES: dict[type, Rule] = {}


def rule(*kinds: type) -> Callable[[Rule], Rule]:
    """Register how instances of some classes are written, subclasses included.

    Parameters
    ----------
    *kinds : type
        The classes. An instance is written by the rule of the first class in its method
        resolution order that has one; `functools.singledispatch` does more, and takes
        milliseconds for each new class of a large family.

    Returns
    -------
    callable
        Decorator for a function of the object and the stream.
    """

    def register(function: Rule) -> Rule:
        for kind in kinds:
            _RULES[kind] = function
        return function

    return register


def write(obj: object, stream: Stream) -> None:
    """Write one object to a stream by the rule for its class."""
    for cls in type(obj).__mro__:
        found = _RULES.get(cls)
        if found is not None:
            found(obj, stream)
            return
    raise stream.walk.refuse(f"no rule for {type(obj)}")


def _none(stream: Stream, obj: object) -> None:
    stream.put(b"none")


def _int(stream: Stream, obj: int) -> None:
    stream.put(b"int", b"%d" % obj)


def _bool(stream: Stream, obj: bool) -> None:
    stream.put(b"bool", b"1" if obj else b"0")


def _float(stream: Stream, obj: float) -> None:
    stream.put(b"float", obj.hex().encode())


def _complex(stream: Stream, obj: complex) -> None:
    stream.put(b"complex", f"{obj.real.hex()},{obj.imag.hex()}".encode())


def _str(stream: Stream, obj: str) -> None:
    stream.text(b"str", obj)


def _bytes(stream: Stream, obj: bytes) -> None:
    stream.put(b"bytes", obj)


def _named(stream: Stream, obj: object) -> None:
    stream.text(b"singleton", repr(obj))


# Written by value at once, exact types only: a subclass may carry more.
ATOMS: dict[type, Callable[[Stream, Any], None]] = {
    type(None): _none,
    bool: _bool,
    int: _int,
    float: _float,
    complex: _complex,
    str: _str,
    bytes: _bytes,
    type(Ellipsis): _named,
    type(NotImplemented): _named,
}

# Kinds whose identity means nothing: whether two equal ones are one object depends on how the
# interpreter folded constants, so they are written out each time.
BY_VALUE: set[type] = {tuple, frozenset}

# What no function of a model may use, by ``id``, with its name (see `identity.functions`).
REFUSED: dict[int, str] = {}

# What has a name in a release is written by that each time: a copy may share it or not.
_NAMED = (type, types.FunctionType, types.BuiltinFunctionType)

_MOST_UNCLOSED = 5000
