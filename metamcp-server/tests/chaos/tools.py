"""An MCP server over stdio whose calls leave a countable trace in the file $TRACE: a line when a call begins, one when it has acted.

Each line says which job and which lease made the call (from `_meta`) and when, on the clock that all processes of a machine share.
Calls run side by side. `poison` kills the worker that made the call, whichever process between them that needs.
"""

import json
import os
import signal
import sys
import threading
import time

TRACE = os.environ["TRACE"]
JOB, EPOCH = "io.github.metamcp/job", "io.github.metamcp/epoch"
INPUT = {
    "type": "object",
    "properties": {"key": {"type": "string"}, "pause_ms": {"type": "integer"}, "of": {"type": "string"}},
    "required": ["key"],
}
SAFE = {"idempotentHint": True}
TOOLS = [
    {"name": "mark", "description": "mark a page", "inputSchema": INPUT, "annotations": SAFE},
    {"name": "note", "description": "write a note", "inputSchema": INPUT},
    {"name": "look", "description": "look something up", "inputSchema": INPUT, "annotations": {"readOnlyHint": True}},
    {"name": "slow", "description": "copy a book", "inputSchema": INPUT, "annotations": SAFE},
    {"name": "join", "description": "bind what was written", "inputSchema": INPUT, "annotations": SAFE},
    {"name": "poison", "description": "burn the house down", "inputSchema": INPUT, "annotations": SAFE},
]
PARENTS_MAX = 8
answering = threading.Lock()


def trace(what, tool, key, meta):
    line = {"at": time.monotonic_ns(), "what": what, "tool": tool, "key": key, "job": meta[JOB], "epoch": meta[EPOCH]}
    book = os.open(TRACE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(book, (json.dumps(line) + "\n").encode())
    os.close(book)


def worker():
    """The nearest ancestor that is `metamcp worker`, and that alone: nothing else is ever killed."""
    pid = os.getppid()
    for _ in range(PARENTS_MAX):
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            words = line.read().split(b"\0")
        if len(words) > 1 and os.path.basename(words[0]) == b"metamcp" and words[1] == b"worker":
            return pid
        with open(f"/proc/{pid}/stat", "rb") as stat:
            pid = int(stat.read().rsplit(b")", 1)[1].split()[1])
    raise ValueError("no worker above this server")


def call(params):
    tool, arguments, meta = params["name"], params.get("arguments", {}), params["_meta"]
    key = arguments["key"]
    trace("begin", tool, key, meta)
    if tool == "poison":
        os.kill(worker(), signal.SIGKILL)
    time.sleep(arguments.get("pause_ms", 0) / 1000)
    trace("end", tool, key, meta)
    told = {"key": key, "job": meta[JOB], "epoch": meta[EPOCH], "of": arguments.get("of")}
    return {"content": [{"type": "text", "text": key}], "structuredContent": told, "isError": False}


def answer(request):
    reply = {"jsonrpc": "2.0", "id": request["id"]}
    method = request["method"]
    try:
        if method == "initialize":
            server = {"name": "tools", "version": "1"}
            reply["result"] = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": server}
        elif method == "ping":
            reply["result"] = {}
        elif method == "tools/list":
            reply["result"] = {"tools": TOOLS}
        elif method == "tools/call":
            reply["result"] = call(request["params"])
        else:
            reply["error"] = {"code": -32601, "message": f"unknown method {method}"}
    except (OSError, ValueError, KeyError) as error:
        reply["error"] = {"code": -32603, "message": f"{type(error).__name__}: {error}"}
    with answering:
        sys.stdout.write(json.dumps(reply, separators=(",", ":")) + "\n")
        sys.stdout.flush()


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request and "method" in request:
        threading.Thread(target=answer, args=(request,), daemon=True).start()
