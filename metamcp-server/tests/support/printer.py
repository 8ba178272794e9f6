"""An MCP server over stdio with one tool, `print_poster`, that takes a text and says in a structured result how long the poster is."""

import json
import sys

TOOL = {
    "name": "print_poster",
    "description": "print a large poster with these words",
    "inputSchema": {
        "type": "object",
        "properties": {"words": {"type": "string"}, "copies": {"type": "integer"}},
        "required": ["words"],
    },
    "outputSchema": {"type": "object", "properties": {"length": {"type": "integer"}, "words": {"type": "string"}}},
}


def answer(request):
    method = request["method"]
    if method == "initialize":
        server = {"name": "printer", "version": "1"}
        return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": server}
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        words = request["params"]["arguments"]["words"]
        poster = {"length": len(words), "words": words.upper()}
        return {"content": [{"type": "text", "text": json.dumps(poster)}], "structuredContent": poster}
    return {}


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request and "method" in request:
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": answer(request)}), flush=True)
