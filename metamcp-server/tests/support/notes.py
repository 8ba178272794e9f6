"""An MCP server over stdio whose tools leave a countable trace: each executed call appends one line to the file $NOTES.

`note` declares nothing, so a call that may have happened must never be repeated; `mark` declares itself idempotent.
`slow` works for a given time, `fails` answers a protocol error until the file $NOTES.mended is there, `complains` is a tool error.
"""

import json
import os
import sys
import time

NOTES = os.environ["NOTES"]
KEY = {"type": "object", "properties": {"key": {"type": "string"}, "pause_ms": {"type": "integer"}}, "required": ["key"]}
TOOLS = [
    {"name": "note", "description": "write a note into the book", "inputSchema": KEY},
    {"name": "mark", "description": "mark a page of the book", "inputSchema": KEY, "annotations": {"idempotentHint": True}},
    {"name": "slow", "description": "sleep for a while", "inputSchema": KEY, "annotations": {"readOnlyHint": True}},
    {"name": "fails", "description": "break the pencil", "inputSchema": KEY},
    {"name": "complains", "description": "grumble about the weather", "inputSchema": KEY},
]


def leave_trace(tool, key):
    line = f"{tool} {key}\n".encode()
    book = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(book, line)
    os.close(book)


def call(params):
    tool, arguments = params["name"], params.get("arguments", {})
    key = arguments.get("key", "")
    time.sleep(arguments.get("pause_ms", 0) / 1000)
    if tool == "fails" and not os.path.exists(NOTES + ".mended"):
        raise ValueError("the pencil is broken")
    leave_trace(tool, key)
    return {"content": [{"type": "text", "text": f"{tool} {key}"}], "isError": tool == "complains"}


def answer(request):
    method = request["method"]
    if method == "initialize":
        return {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "notes", "version": "1"},
        }
    if method == "ping":
        return {}
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call":
        return call(request["params"])
    raise LookupError(method)


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request or "method" not in request:
        continue
    reply = {"jsonrpc": "2.0", "id": request["id"]}
    try:
        reply["result"] = answer(request)
    except LookupError as error:
        reply["error"] = {"code": -32601, "message": f"unknown method {error}"}
    except ValueError as error:
        reply["error"] = {"code": -32603, "message": str(error)}
    sys.stdout.write(json.dumps(reply, separators=(",", ":")) + "\n")
    sys.stdout.flush()
