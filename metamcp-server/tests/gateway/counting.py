"""An MCP server over stdio, of the era $ERA, whose executed calls leave a countable trace: one line `tool key pid` each in the file $TRACE.

Its start leaves `start NAME pid`, a call that is cancelled `cancelled key pid`. Calls run side by side; one with `until` goes on until that
file is there. `note` declares nothing, so what may have happened must never be repeated; `look` only reads. `ask` asks a person first, and
counts once it was answered. While the file $DOWN is there, the server does not serve: it ends, or hangs if the file says `hang`.
"""

import json
import os
import sys
import threading
import time

TRACE, ERA, NAME, DOWN = (os.environ[name] for name in ("TRACE", "ERA", "NAME", "DOWN"))
MODERN, LEGACY = "2026-07-28", "2025-06-18"
LOOK_S = 0.02
PROPERTIES = {"key": {"type": "string"}, "until": {"type": "string"}}
INPUT = {"type": "object", "properties": PROPERTIES, "required": ["key"]}
TOOLS = [
    {"name": "note", "description": "write a note into the book", "inputSchema": INPUT},
    {"name": "look", "description": "look something up", "inputSchema": INPUT, "annotations": {"readOnlyHint": True}},
    {"name": "ask", "description": "ask a person for a colour", "inputSchema": INPUT},
]
ABOUT = {"name": NAME, "version": "1"}
SCHEMA = {"type": "object", "properties": {"colour": {"type": "string"}}}
QUESTION = {"method": "elicitation/create", "params": {"mode": "form", "message": "which?", "requestedSchema": SCHEMA}}
speaking = threading.Lock()
keys, answers, asked = {}, {}, threading.Condition()


def trace(what, key):
    book = os.open(TRACE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(book, f"{what} {key} {os.getpid()}\n".encode())
    os.close(book)


def say(message):
    with speaking:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")) + "\n")
        sys.stdout.flush()


def told(text):
    return {"content": [{"type": "text", "text": text}], "isError": False}


def ask(key):
    """Asks the client in the middle of a call, as the legacy era does."""
    say({"id": f"question-{key}", **QUESTION})
    with asked:
        asked.wait_for(lambda: f"question-{key}" in answers)
        return answers.pop(f"question-{key}")


def call(params):
    tool, arguments = params["name"], params.get("arguments", {})
    key = arguments["key"]
    if tool == "ask":
        if ERA == "legacy":
            answer = ask(key)
        elif "inputResponses" not in params:
            return {"resultType": "input_required", "inputRequests": {"colour": QUESTION}, "requestState": f"asked {key}"}
        elif params.get("requestState") != f"asked {key}":
            raise ValueError("another state than was given out")
        else:
            answer = params["inputResponses"]["colour"]
        trace(tool, key)
        return told(f"{key} {answer['content']['colour']}")
    trace(tool, key)
    while "until" in arguments and not os.path.exists(arguments["until"]):
        time.sleep(LOOK_S)
    return told(f"{tool} {key}")


def answer(request):
    method, params = request["method"], request.get("params", {})
    if method == "server/discover" and ERA == "modern":
        return {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "serverInfo": ABOUT}
    if method == "initialize" and ERA == "legacy":
        return {"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": ABOUT}
    if method == "ping":
        return {}
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call":
        return call(params)
    raise LookupError(method)


def serve(request):
    try:
        result = answer(request)
        say({"id": request["id"], "result": {"resultType": "complete", **result} if ERA == "modern" else result})
    except LookupError as error:
        say({"id": request["id"], "error": {"code": -32601, "message": f"unknown {error}"}})
    except ValueError as error:
        say({"id": request["id"], "error": {"code": -32603, "message": str(error)}})


while os.path.exists(DOWN):
    with open(DOWN) as how:
        if how.read() != "hang":
            sys.exit(1)
    time.sleep(LOOK_S)
trace("start", NAME)
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "notifications/cancelled":
        trace("cancelled", keys.get(message["params"]["requestId"], "nothing"))
    elif "method" in message and "id" in message:
        keys[message["id"]] = message.get("params", {}).get("arguments", {}).get("key")
        threading.Thread(target=serve, args=(message,), daemon=True).start()
    elif "id" in message:
        with asked:
            answers[message["id"]] = message.get("result")
            asked.notify_all()
