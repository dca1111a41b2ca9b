"""What the Gemini API accepts, and what it says to the rest.

Sources as in `chatsdk.simulator.gemini`; messages are the service's own where they are public.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
import hashlib
import re
from typing import Any

from .service import Messages
from .voice import compact

#: What the methods of a model are for.
METHODS = {"generateContent": "chat", "streamGenerateContent": "chat", "countTokens": "count",
           "embedContent": "embeddings", "batchEmbedContents": "embeddings"}
_LEVELS = ("minimal", "low", "medium", "high")
_MOST_EMBEDDED = 100
_ANY_SIGNATURE = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_KNOWN = frozenset((
    "contents", "tools", "toolConfig", "safetySettings", "systemInstruction", "generationConfig",
    "cachedContent", "serviceTier", "store", "model"))
_CONFIG = frozenset((
    "stopSequences", "responseMimeType", "responseSchema", "responseJsonSchema", "candidateCount",
    "maxOutputTokens", "temperature", "topP", "topK", "seed", "presencePenalty", "frequencyPenalty",
    "responseLogprobs", "logprobs", "responseModalities", "speechConfig", "thinkingConfig",
    "mediaResolution", "imageConfig", "enableEnhancedCivicAnswers", "responseFormat"))
_UNEQUAL = "Please ensure that the number of function response parts is equal to the number of " \
           "function call parts of the function call turn."
_DATA = ("text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode",
         "codeExecutionResult", "toolCall", "toolResponse")
_BESIDE = ("thought", "thoughtSignature", "videoMetadata", "mediaResolution", "partMetadata")
_STANDARD = str.maketrans("-_", "+/")  # from the alphabet of URLs to the common one
_NAME = re.compile(r"[a-zA-Z_][\w.:-]{0,127}", re.ASCII)


@dataclass(frozen=True)
class _Model:
    """A model; `levels` are those of its thinking, none where it takes a budget."""

    id: str
    title: str
    levels: tuple[str, ...] = ()
    embeds: bool = False

    def entry(self) -> dict[str, Any]:
        """Return what the list of models says of it."""
        methods = ["embedContent", "countTextTokens", "countTokens", "asyncBatchEmbedContent"] \
            if self.embeds else ["generateContent", "countTokens", "createCachedContent",
                                 "batchGenerateContent"]
        longest = {"inputTokenLimit": 2048, "outputTokenLimit": 1} if self.embeds else {
            "inputTokenLimit": 1048576, "outputTokenLimit": 65536, "temperature": 1, "topP": 0.95,
            "topK": 64, "maxTemperature": 2, "thinking": True}
        return {"name": f"models/{self.id}", "version": "001", "displayName": self.title,
                "description": f"{self.title}, simulated", **longest,
                "supportedGenerationMethods": methods}


MODELS = (
    _Model("gemini-2.5-flash", "Gemini 2.5 Flash"),
    _Model("gemini-2.5-pro", "Gemini 2.5 Pro"),
    _Model("gemini-3-flash-preview", "Gemini 3 Flash Preview", _LEVELS),
    _Model("gemini-3.1-pro-preview", "Gemini 3.1 Pro Preview", ("low", "medium", "high")),
    _Model("gemini-3.5-flash-lite", "Gemini 3.5 Flash-Lite", _LEVELS),
    _Model("gemini-3.8-flash", "Gemini 3.8 Flash", ("low", "medium", "high")),
    _Model("gemini-4-argon", "Gemini 4 Argon", ("low", "medium", "high")),
    _Model("gemini-embedding-001", "Gemini Embedding 001", embeds=True),
    _Model("gemini-embedding-2", "Gemini Embedding 2", embeds=True),
)


class Problem(Exception):
    """A request is refused with these words."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def named(name: str, method: str = "") -> _Model:
    """Return the model of a name.

    Raises:
        Problem: There is none, or it does not have that method.
    """
    found = next((model for model in MODELS if model.id == name), None)
    embeds = METHODS.get(method) == "embeddings"
    if found is None or (method not in ("", "countTokens") and found.embeds != embeds):
        raise Problem(f"models/{name} is not found for API version v1beta, or is not supported for "
                      f"{method or 'GetModel'}. Call ModelService.ListModels to see the list of "
                      "available models and their supported methods.", 404)
    return found


def sign(said: str) -> str:
    """Return the signature of a part."""
    digest = hashlib.blake2b(said.encode(), key=b"simulated").digest()
    return base64.b64encode(b"\x12" + digest).decode()


def _signed(signature: object, said: str) -> bool:
    """Tell whether a signature, if there is one, is that of a part; both alphabets are taken."""
    return signature is None or signature in _ANY_SIGNATURE or (
        isinstance(signature, str) and signature.translate(_STANDARD) == sign(said))


def called(call: Mapping[str, Any]) -> str:
    """Return a call as the text that its signature is for."""
    pairs = sorted((call.get("args") or {}).items())
    return f"{call.get('name')} {compact(pairs).decode()}"


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _members(value: object, known: frozenset[str] | tuple[str, ...], at: str = "") -> Any:
    """Return an object with the names as JSON has them; snake case is taken as well."""
    if not isinstance(value, dict):
        raise Problem(f"Invalid value at '{at or 'body'}', it has to be an object")
    members = {_camel(name): inner for name, inner in value.items()}
    for name, written in zip(members, value):
        if name not in known:
            place = f" at '{at}'" if at else ""
            raise Problem(f'Invalid JSON payload received. Unknown name "{written}"{place}: '
                          "Cannot find field.")
    return members


def check(body: object, model: str, method: str) -> dict[str, Any]:
    """Check the body of a request for text and return it in camel case.

    Raises:
        Problem: Says what the service does not accept.
    """
    found = named(model, method)
    if not isinstance(body, dict):
        raise Problem("Invalid JSON payload received. Expected an object")
    request: dict[str, Any] = _members(body, _KNOWN)
    contents = request.get("contents")
    if isinstance(contents, dict):
        contents = [contents]
    if not isinstance(contents, list) or not contents:
        raise Problem("* GenerateContentRequest.contents: contents is not specified\n")
    request["contents"] = [_content(content, f"contents[{index}]")
                           for index, content in enumerate(contents)]
    if request.get("systemInstruction") is not None:
        request["systemInstruction"] = _content(request["systemInstruction"], "system_instruction")
    _check_config(request, found)
    _check_tools(request)
    _check_calls(request["contents"])
    if found.levels and method != "countTokens":
        _check_signatures(request["contents"])
    return request


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_VALUES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("maxOutputTokens", lambda v: _count(v) and v > 0, "must be positive"),
    ("temperature", lambda v: _number(v) and 0 <= v <= 2, "must be in the range [0.0, 2.0]"),
    ("topP", lambda v: _number(v) and 0 <= v <= 1, "must be in the range [0.0, 1.0]"),
    ("topK", lambda v: _number(v) and v > 0, "must be positive"),
    ("seed", _count, "must be an integer"),
    ("candidateCount", lambda v: v == 1, "only one candidate can be specified"),
    ("stopSequences", lambda v: isinstance(v, list) and len(v) <= 5 and
     all(isinstance(text, str) and text for text in v), "must be at most 5 texts, none empty"),
    ("responseMimeType", lambda v: v in ("text/plain", "application/json", "text/x.enum"),
     "allowed mimetypes are `text/plain`, `application/json` and `text/x.enum`"),
    ("responseSchema", lambda v: isinstance(v, dict), "must be an object"),
    ("responseJsonSchema", lambda v: isinstance(v, dict), "must be an object"),
)


def _check_config(request: dict[str, Any], model: _Model) -> None:
    config = _members(request.get("generationConfig") or {}, _CONFIG, "generation_config")
    request["generationConfig"] = config
    for name, allowed, message in _VALUES:
        if config.get(name) is not None and not allowed(config[name]):
            raise Problem(f"* GenerateContentRequest.generation_config.{name}: {message}\n")
    schemas = [name for name in ("responseSchema", "responseJsonSchema") if name in config]
    if len(schemas) > 1:
        raise Problem("Only one of response_schema and response_json_schema can be set")
    if schemas and config.get("responseMimeType") != "application/json":
        raise Problem("Function calling config is not set, and response_schema needs the response "
                      "mime type 'application/json'")
    thinking = _members(config.get("thinkingConfig") or {},
                        ("includeThoughts", "thinkingBudget", "thinkingLevel"), "thinking_config")
    config["thinkingConfig"] = thinking
    level, budget = thinking.get("thinkingLevel"), thinking.get("thinkingBudget")
    if level is not None and budget is not None:
        raise Problem("You can only set only one of thinking budget and thinking level.")
    if level is not None and not model.levels:
        raise Problem("Thinking level is not supported for this model.")
    if level is not None and str(level).lower() not in model.levels:
        raise Problem(f"Thinking level {str(level).upper()} is not supported for this model.")
    if budget is not None and not (_count(budget) and -1 <= budget <= 32768):
        raise Problem(f"The thinking budget {budget} is invalid. Please choose a value between 0 "
                      "and 32768.")


def _check_tools(request: dict[str, Any]) -> None:
    tools = request.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise Problem("Invalid value at 'tools', it has to be a list of objects")
    request["tools"] = [{_camel(name): inner for name, inner in tool.items()} for tool in tools]
    names = []
    for index, tool in enumerate(request["tools"]):
        functions = tool.get("functionDeclarations") or []
        for place, function in enumerate(functions):
            at = f"tools[{index}].function_declarations[{place}]"
            known = ("name", "description", "parameters", "parametersJsonSchema", "response",
                     "responseJsonSchema", "behavior")
            functions[place] = function = _members(function, known, at)
            if not isinstance(function.get("name"), str) or not _NAME.fullmatch(function["name"]):
                raise Problem(f"* GenerateContentRequest.{at}.name: Invalid function name. Must "
                              "start with a letter or an underscore.\n")
            if "parameters" in function and "parametersJsonSchema" in function:
                raise Problem(f"* GenerateContentRequest.{at}: only one of parameters and "
                              "parameters_json_schema can be set\n")
            names.append(function["name"])
    if len(set(names)) < len(names):
        raise Problem("Duplicate function declaration found")
    config = _members(request.get("toolConfig") or {},
                      ("functionCallingConfig", "retrievalConfig"), "tool_config")
    calling = _members(config.get("functionCallingConfig") or {},
                       ("mode", "allowedFunctionNames"), "function_calling_config")
    request["toolConfig"] = {"functionCallingConfig": calling}
    mode = calling.get("mode", "AUTO")
    if mode not in ("AUTO", "ANY", "NONE", "VALIDATED"):
        raise Problem(f"Invalid value at 'tool_config.function_calling_config.mode': \"{mode}\"")
    allowed = calling.get("allowedFunctionNames") or []
    if allowed and mode not in ("ANY", "VALIDATED"):
        raise Problem("Please set allowed_function_names only when function calling mode is ANY.")
    if unknown := [name for name in allowed if name not in names]:
        raise Problem(f"allowed_function_names has an unknown function: {unknown[0]}")


# Contents

def _content(content: object, at: str) -> dict[str, Any]:
    members = _members(content, ("role", "parts"), at)
    role, parts = members.get("role", "user"), members.get("parts")
    if role not in ("user", "model", "function") and at != "system_instruction":
        raise Problem("Please use a valid role: user, model.")
    if isinstance(parts, dict):
        parts = [parts]
    if not isinstance(parts, list) or not parts:
        raise Problem(f"* GenerateContentRequest.{at}.parts: contents.parts must not be empty.\n")
    checked = [_part(part, f"{at}.parts[{index}]") for index, part in enumerate(parts)]
    return {"role": "user" if role == "function" else role, "parts": checked}


def _part(part: object, at: str) -> dict[str, Any]:
    members: dict[str, Any] = _members(part, (*_DATA, *_BESIDE), at)
    data = [name for name in _DATA if name in members]
    if len(data) != 1:
        raise Problem(f"* GenerateContentRequest.{at}.data: required oneof field 'data' must have "
                      "one initialized field\n")
    check = _PARTS.get(data[0])
    value = members[data[0]]
    if check is not None:
        if data[0] != "text":
            members[data[0]] = value = _members(value, check[1], at)
        if not check[0](value):
            raise Problem(f"Invalid value at '{at}.{data[0]}'")
    return members


def _decodes(value: Mapping[str, Any]) -> bool:
    try:
        base64.b64decode(value.get("data", "").translate(_STANDARD), validate=True)
    except (AttributeError, ValueError):
        return False
    return isinstance(value.get("mimeType"), str) and bool(value.get("data"))


def _call(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("name"), str) and isinstance(value.get("args") or {}, dict)


def _result(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("name"), str) and isinstance(value.get("response"), dict)


_PARTS: Mapping[str, tuple[Callable[[Any], bool], tuple[str, ...]]] = {
    "text": (lambda value: isinstance(value, str), ()),
    "inlineData": (_decodes, ("mimeType", "data", "displayName")),
    "fileData": (lambda value: isinstance(value.get("fileUri"), str),
                 ("mimeType", "fileUri", "displayName")),
    "functionCall": (_call, ("id", "name", "args")),
    "functionResponse": (_result, ("id", "name", "response", "parts", "willContinue",
                                   "scheduling")),
}


def _with(content: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    return [part[kind] for part in content["parts"] if kind in part]


def _check_calls(contents: list[dict[str, Any]]) -> None:
    """Check that calls come from the model and each has a result in the next turn."""
    asked: list[dict[str, Any]] = []
    for index, content in enumerate(contents):
        results = _with(content, "functionResponse")
        if len(results) != len(asked) and (results or asked):
            raise Problem(_UNEQUAL)
        for call, result in zip(asked, results):
            names = [other["name"] for other in asked]
            if result["name"] not in names or (
                    "id" in result and "id" in call
                    and result["id"] not in [other.get("id") for other in asked]):
                raise Problem("Please ensure that function response turn comes immediately after a "
                              "function call turn.")
        asked = _with(content, "functionCall")
        if asked and (content["role"] != "model" or index == 0):
            raise Problem("Please ensure that function call turn comes immediately after a user "
                          "turn or after a function response turn.")
    if asked:
        raise Problem(_UNEQUAL)


def _check_signatures(contents: list[dict[str, Any]]) -> None:
    """Check that signatures come back: needed since the user spoke last, and never another's."""
    spoke = max((index for index, content in enumerate(contents) if content["role"] == "user"
                 and not _with(content, "functionResponse")), default=0)
    for index, content in enumerate(contents):
        first = True
        for place, part in enumerate(content["parts"]):
            signature = part.get("thoughtSignature")
            call = part.get("functionCall")
            if call is None:
                if not _signed(signature, ""):
                    raise Problem("Corrupted thought signature.")
                continue
            if signature is None and first and index > spoke:
                raise Problem(
                    "Function call is missing a thought_signature in functionCall parts. This is "
                    "required for tools to work correctly, and missing thought_signature may lead "
                    "to degraded model performance. Additional data, function call "
                    f"`default_api:{call['name']}` , position {place + 1}. Please refer to "
                    "https://ai.google.dev/gemini-api/docs/thought-signatures for more details.")
            if not _signed(signature, called(call)):
                raise Problem("Corrupted thought signature.")
            first = False


def check_embedding(body: object, model: str, method: str) -> list[tuple[str, int]]:
    """Check a request for embeddings and return its texts, each with the size of its vector.

    Raises:
        Problem: Says what the service does not accept.
    """
    named(model, method)
    if method == "embedContent":
        requests = [body]
    else:
        requests = _members(body, ("requests",)).get("requests")
    if not isinstance(requests, list) or not requests:
        raise Problem("* BatchEmbedContentsRequest.requests: requests is not specified\n")
    if len(requests) > _MOST_EMBEDDED:
        raise Problem("* BatchEmbedContentsRequest.requests: at most 100 requests can be in one "
                      "batch\n")
    return [_embedded(request, model, single=method == "embedContent") for request in requests]


def _embedded(request: object, model: str, *, single: bool) -> tuple[str, int]:
    known = ("model", "content", "taskType", "title", "outputDimensionality",
             "embedContentConfig")
    members = _members(request, known, "requests")
    if members.get("model") != f"models/{model}" and not (single and "model" not in members):
        raise Problem("* BatchEmbedContentsRequest.requests[0].model: model in the request has to "
                      "be that of the path\n")
    content = _content(members.get("content"), "content")
    text = "".join(part.get("text", "") for part in content["parts"])
    size = members.get("outputDimensionality", 3072)
    if not _count(size) or not 1 <= size <= 3072:
        raise Problem("output_dimensionality must be between 1 and 3072")
    if not text:
        raise Problem("* EmbedContentRequest.content: empty content\n")
    return text, size


# What was said

def spoken(body: Mapping[str, Any]) -> Messages:
    """Return what was said, as texts; results of functions are messages of role ``tool``."""
    said: Messages = []
    if body.get("systemInstruction"):
        said.append({"role": "system", "content": _text(body["systemInstruction"])})
    for content in body["contents"]:
        results = _with(content, "functionResponse")
        said += [{"role": "tool", "name": result["name"], "content": _value(result["response"])}
                 for result in results]
        text = _text(content)
        if text or not results:
            role = {"model": "assistant"}.get(content["role"], content["role"])
            said.append({"role": role, "content": text})
    return said


def _value(response: Mapping[str, Any]) -> str:
    """Return a result as text: of ``{"result": ...}`` or ``{"output": ...}`` the inside."""
    for name in ("result", "output"):
        if response.keys() == {name}:
            inner = response[name]
            return inner if isinstance(inner, str) else compact(inner).decode()
    return compact(response).decode()


def _text(content: Mapping[str, Any]) -> str:
    return "".join(part["text"] for part in content["parts"]
                   if "text" in part and not part.get("thought"))


def plain(schema: Any) -> Any:
    """Return Google's form of a schema as JSON Schema: its types are in upper case."""
    if isinstance(schema, list):
        return [plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: value.lower() if name == "type" and isinstance(value, str) else
            [str(choice) for choice in value] if name == "enum" else plain(value)
            for name, value in schema.items()}
