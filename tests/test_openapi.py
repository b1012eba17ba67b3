"""`/openapi.json` cannot lie: it is compared with the routes, the models, the events and the codes that there are."""

import re
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from jsonschema_rs import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway import events
from gateway.app.house import Gateway
from gateway.dialects.native import NativeDialect, told
from gateway.errors import Code
from gateway.routes.description.bodies import QUESTION
from gateway.routes.description.document import document
from gateway.routes.description.events import EVENTS
from gateway.routes.streams import CONTROLS
from gateway.settings import load
from tests.house import house, see
from tests.test_docs import FREE_FORM, SAMPLES

DOCUMENT = document()
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]
CREDENTIALS = {each["name"] for each in DOCUMENT["components"]["securitySchemes"].values() if "name" in each}
OF_NO_OPERATION = {Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED}
"""Told of paths and methods that are not described, so of no operation."""


def served(app: web.Application) -> set[tuple[str, str]]:
    """Every path and method that the application routes; the HEAD of a GET, and paths that only refuse, aside."""
    return {
        (route.resource.canonical, route.method.lower())
        for route in app.router.routes()
        if route.resource and route.method != "HEAD" and route.resource.canonical != "/stream/{other}"
    }


def codes_of(schema: Any) -> set[str]:
    """Every code that stands in an enumeration anywhere in a schema."""
    if isinstance(schema, list):
        return {code for each in schema for code in codes_of(each)}
    if not isinstance(schema, dict):
        return set()
    found = {code for each in schema.values() for code in codes_of(each)}
    return found | ({code for code in schema.get("enum", ()) if code in Code.__members__})


def test_it_is_valid() -> None:
    """OpenAPI 3.1, schemas included."""
    OpenAPIV31SpecValidator(DOCUMENT).validate()


async def test_it_describes_every_route_and_no_other() -> None:
    """Both ways, by path and method."""
    assert served(Gateway(load(None, {}))._runner.app) == set(OPERATIONS)


def test_it_names_no_host_and_no_version_of_anything() -> None:
    """Whoever reads it learns how to ask, not what to attack."""
    text = orjson.dumps({**DOCUMENT, "openapi": ""}).decode()
    assert not re.search(r"https?://|\d+\.\d+\.\d+|aiohttp|python|pydantic|redis[/-]", text, re.IGNORECASE)


def test_every_code_can_be_found_under_its_status() -> None:
    """The errors before the first byte: each is an answer of some operation, with the status that it has."""
    told_of: dict[str, set[str]] = {}
    for path, method in OPERATIONS:
        for status, response in DOCUMENT["paths"][path][method]["responses"].items():
            for name in codes_of(response.get("content", {})):
                told_of.setdefault(name, set()).add(status)
    for code in set(Code) - OF_NO_OPERATION:
        assert str(code.status) in told_of[code.name], code.name


def test_every_parameter_that_the_routes_hear_is_described() -> None:
    """The fields of a question, and those that say how to answer it."""
    parts = DOCUMENT["components"]["parameters"]
    asked = [parts[each["$ref"].rsplit("/", 1)[1]] if "$ref" in each else each
             for each in DOCUMENT["paths"]["/stream"]["get"]["parameters"]]  # fmt: skip
    assert {each["name"] for each in asked if each["in"] == "query"} == {
        *NativeDialect.body.model_fields,
        *CONTROLS,
    } - CREDENTIALS


def test_every_field_of_a_question_has_a_meaning() -> None:
    """And no meaning is left over."""
    assert set(QUESTION) == set(NativeDialect.body.model_fields)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_every_event_is_as_it_is_described(sample: events.Event) -> None:
    """Its data fit their schema, and hold no name that is not in it."""
    if isinstance(sample, events.Custom):
        return
    name, data = told(sample)
    _, properties, required = EVENTS[name]
    data = orjson.loads(orjson.dumps(data))
    Draft202012Validator({"properties": properties, "required": list(required)}).validate(data)
    assert name in FREE_FORM or set(data) == set(data) & set(properties)


def test_every_component_is_used() -> None:
    """Nothing is described that no route has."""
    text = orjson.dumps(DOCUMENT).decode()
    for kind, parts in DOCUMENT["components"].items():
        for name in parts if kind != "securitySchemes" else ():
            inline = kind == "parameters" and name == "question"
            assert inline or f'"#/components/{kind}/{name}"' in text, name


async def test_it_is_served_whole() -> None:
    """As JSON, with nothing that may not be kept in a cache for a moment."""
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        seen = await see(session, "GET", "/openapi.json")
    assert (seen.status, seen.headers["Content-Type"]) == (200, "application/json")
    assert seen.json() == orjson.loads(orjson.dumps(DOCUMENT))


async def test_it_can_be_switched_off() -> None:
    """`server.docs = false`: neither the document nor its page is there."""
    async with house(GATEWAY_SERVER__DOCS="false") as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        for path in ("/openapi.json", "/docs"):
            seen = await see(session, "GET", path)
            assert (seen.status, seen.json()["code"]) == (404, "NOT_FOUND")
