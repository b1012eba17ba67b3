"""Reading JSON: all of it or nothing, as deep as it may be, and errors in words of ours."""

from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway.dialects.base import JSON_NESTING_MAX
from gateway.dialects.fields import Name, parse_json, parse_object, validate
from gateway.errors import Code, GatewayError


class Inner(BaseModel):
    """A structured field."""

    model_config = ConfigDict(extra="forbid")

    rate: float = Field(1.0, le=4)


class Outer(BaseModel):
    """A body."""

    model_config = ConfigDict(extra="forbid")

    size: Annotated[int, Field(ge=1)] = 1
    voice: bool | Inner = False
    parts: list[Inner] = []
    kind: str = Field("", alias="type")


def refusal(**values: object) -> GatewayError:
    """What is said to these fields."""
    with pytest.raises(GatewayError) as raised:
        validate(Outer, values)
    assert raised.value.code is Code.INVALID_REQUEST
    return raised.value


@pytest.mark.parametrize("levels", [JSON_NESTING_MAX, JSON_NESTING_MAX + 1])
def test_json_may_nest_so_deep_and_no_deeper(levels: int) -> None:
    """Levels of lists inside the object."""
    body = b'{"a":' + b"[" * levels + b"]" * levels + b"}"
    if levels <= JSON_NESTING_MAX:
        assert parse_object(body)
        return
    with pytest.raises(GatewayError, match="deeper than 64 levels"):
        parse_object(body)


@pytest.mark.parametrize("text", ["", '{"a":1},"b":2', "[1] [2]", "{\ud800", "[NaN]", "[" * 1000])
def test_json_in_a_parameter_is_one_whole_value(text: str) -> None:
    """Nothing may stand behind it, and nothing that cannot be encoded inside it."""
    with pytest.raises(GatewayError) as raised:
        parse_json(text)
    assert raised.value.code is Code.INVALID_JSON


def test_the_last_of_equal_names_counts() -> None:
    """As in every JSON parser of our clients; what is fingerprinted is what is used."""
    assert parse_object(b'{"a":1,"a":2}') == {"a": 2}


def test_an_unknown_field_is_answered_with_the_known_ones() -> None:
    """By the names that clients use, in order; the unknown name itself is not repeated."""
    error = refusal(kanarienvogel=1)
    assert error.allowed == ["parts", "size", "type", "voice"]
    assert error.message == "unknown field; allowed are: parts, size, type, voice"
    assert error.param is None


@pytest.mark.parametrize(
    ("values", "param", "message"),
    [
        ({"size": 0}, "size", "size: Input should be greater than or equal to 1"),
        ({"parts": [{}, {"rate": 5}]}, "parts[1]", "parts[1]: Input should be less than or equal to 4"),
        ({"voice": {"rate": 5}}, "voice", "voice: Input should be less than or equal to 4"),
        ({"voice": {"kanarienvogel": 5}}, "voice", "voice: Extra inputs are not permitted"),
        ({"voice": "kanarienvogel"}, "voice", "voice: Input should be a valid boolean"),
        ({"type": 5}, "type", "type: Input should be a valid string"),
    ],
)
def test_a_wrong_field_is_told_what_is_wrong_with_it(values: dict[str, object], param: str, message: str) -> None:
    """Of several readings of a field, that which came furthest; names that the client made up are left out."""
    error = refusal(**values)
    assert (error.param, error.message, error.allowed) == (param, message, None)


@pytest.mark.parametrize("text", ["a", "ü", "a b", "😀" * 200, "org/model:free", "\u2027", "\xa0"])
def test_names_may_hold_all_that_can_be_written(text: str) -> None:
    """Up to 200 characters of any language."""
    assert TypeAdapter(Name).validate_python(text) == text


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029])
def test_names_hold_no_control_character(code: int) -> None:
    """They could end a line of a log or a header."""
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(f"a{chr(code)}b")
