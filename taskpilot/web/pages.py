"""The service info, and the pages of the documentation and of the description of the API."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from taskpilot.domain.errors import UsageError
from taskpilot.views import documentation
from taskpilot.web import schemas
from taskpilot.web.dependencies import Services
from taskpilot.web.errors import answers, prefers_html
from taskpilot.web.job_pages import overview
from taskpilot.web.shells import shell_of
from taskpilot.web.templating import render

_BETWEEN_PAGES: Final = re.compile(r'href="(\w+)\.md(#[^"]*)?"')
_TITLE: Final = re.compile(r"<h([1-6])>(.*?)</h\1>")
_METHODS: Final = ("get", "post")
_Shapes = Mapping[str, Mapping[str, Any]]


def for_people(description: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the page /docs: operations by tag, and the shapes that they use."""
    shapes = description.get("components", {}).get("schemas", {})
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in description["paths"].items():
        for method in _METHODS:
            if method in methods:
                operation = methods[method]
                groups.setdefault(operation["tags"][0], []).append(_operation(method, path, operation, shapes))
    return {
        "description": description,
        "groups": list(groups.items()),
        "shapes": [(name, _shape(shape, shapes)) for name, shape in sorted(shapes.items()) if "properties" in shape],
    }


def _operation(method: str, path: str, operation: Mapping[str, Any], shapes: _Shapes) -> dict[str, Any]:
    inputs = [
        {
            "name": one["name"],
            "where": one["in"],
            "required": one.get("required", False),
            "type": type_of(one.get("schema", {}), shapes),
            "text": one.get("description", ""),
        }
        for one in operation.get("parameters", ())
    ]
    if "requestBody" in operation:
        body = operation["requestBody"]
        for media, content in body["content"].items():
            inputs.append(
                {"name": media, "where": "body", "required": False, "type": type_of(content.get("schema", {}), shapes), "text": ""}
            )
    answers = [
        {"status": status, "shape": ", ".join(_answer_shapes(answer, shapes))} for status, answer in sorted(operation["responses"].items())
    ]
    return {"method": method.upper(), "path": path, "text": operation.get("description", ""), "inputs": inputs, "answers": answers}


def _answer_shapes(answer: Mapping[str, Any], shapes: _Shapes) -> Iterator[str]:
    for media, content in answer.get("content", {}).items():
        name = type_of(content.get("schema", {}), shapes)
        yield name if name != "string" else media


def _shape(shape: Mapping[str, Any], shapes: _Shapes) -> dict[str, Any]:
    fields = [(key, type_of(value, shapes), value.get("description", "")) for key, value in shape["properties"].items()]
    return {"text": shape.get("description", ""), "fields": fields}


def type_of(schema: Mapping[str, Any], shapes: _Shapes) -> str:
    """A short form of a JSON schema: `list of Run`, `string (uuid) or null`, `a | b` for an enum."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return type_of(shapes[name], shapes) if "enum" in shapes.get(name, {}) else name
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(type_of(one, shapes) for one in schema[union]))
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}), shapes)}"
    kind = str(schema.get("type", "anything"))
    return f"{kind} ({schema['format']})" if "format" in schema else kind


LINKS: Final = {
    "health": "/health",
    "live": "/livez",
    "ready": "/readyz",
    "metrics": "/metrics",
    "golden_signals": "/golden-signals",
    "jobs": "/api/v1/jobs",
    "runs": "/api/v1/runs",
    "tasks": "/api/v1/tasks",
    "decisions": "/api/v1/decisions",
    "openapi": "/openapi.json",
    "docs": "/docs",
}
_HTML: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}

_PAGE_OR_PICTURE: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"image/png": {}, "image/svg+xml": {}}}}


def page_routes(services: Services, version: str) -> APIRouter:
    """The pages, and the service info as JSON at the same path."""
    router = APIRouter(tags=["pages"], responses=answers(401, 403, 421))
    deployment = services.deployment

    @router.get("/", response_model=schemas.Service, responses=_HTML | answers(503))
    def root(request: Request, after: Annotated[str, Query(max_length=63, include_in_schema=False)] = "") -> Response:
        """Return the service and its links as JSON, or the overview to a browser."""
        if prefers_html(request.headers.get("accept", "")):
            return HTMLResponse(overview(shell_of(request, services), services, version, after), headers={"Vary": "Accept"})
        info = {"name": "taskpilot", "version": version, "deployment": deployment.store.deployment, "links": LINKS}
        return JSONResponse(info, headers={"Vary": "Accept"})

    @router.get("/docs", response_class=HTMLResponse)
    def docs(request: Request) -> Response:
        """The API's description as a page, with links to the documentation."""
        return HTMLResponse(
            render("docs.html", shell=shell_of(request, services), **for_people(request.app.openapi()), topics=documentation.topics())
        )

    @router.get("/docs/{topic}", response_class=HTMLResponse, responses=_PAGE_OR_PICTURE | answers(404))
    def topic(request: Request, topic: str) -> Response:
        """A page of the documentation, or one of its pictures."""
        if found := documentation.picture(topic):
            return Response(found[0], media_type=found[1])
        try:
            page = documentation.topic(topic)
        except UsageError:
            raise HTTPException(404) from None
        return HTMLResponse(
            render("topic.html", shell=shell_of(request, services), page=page, body=_as_html(page.text), topics=documentation.topics())
        )

    @router.get("/openapi.json", responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}})
    def openapi(request: Request) -> Response:
        """Return the description of the API as JSON."""
        return JSONResponse(request.app.openapi())

    return router


def _as_html(text: str) -> str:
    """Our own Markdown; HTML in it would be shown as text."""
    from markdown_it import MarkdownIt

    html: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    # Wide tables scroll, by keyboard too.
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    return _TITLE.sub(_with_id, _BETWEEN_PAGES.sub(r'href="/docs/\1\2"', html))


def _with_id(heading: re.Match[str]) -> str:
    """The heading with the id that links to it name, as on GitHub."""
    name = re.sub(r"<[^>]+>|&\w+;|[^\w -]", "", heading[2]).lower().replace(" ", "-")
    return f'<h{heading[1]} id="{name}">{heading[2]}</h{heading[1]}>'
