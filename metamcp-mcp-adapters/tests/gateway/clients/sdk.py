"""A client of PyPI's mcp, which knows both eras: python sdk.py URL ERA STEP..."""

import asyncio
import os
import sys
from typing import Literal

from mcp import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp_types import CallToolResult, ElicitResult, Request, RequestParams, Result

# How often, and with which pause in seconds, something is looked for that is sure to come.
LOOKS_MAX = 300
LOOK_S = 0.1


class Created(Result):
    """What a call answers that has become a task."""

    result_type: Literal["task"] = "task"
    task_id: str


class Polled(Result):
    """Where the task stands."""

    status: str
    result: CallToolResult | None = None


class TaskParams(RequestParams):
    task_id: str


class GetTask(Request[TaskParams, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    params: TaskParams
    name_param = "taskId"


class Tasks(ClientExtension):
    """The tasks extension: a call that becomes a task is waited for."""

    identifier = "io.modelcontextprotocol/tasks"
    seen = 0

    def claims(self):
        return [ResultClaim(result_type="task", model=Created, resolve=self.wait)]

    async def wait(self, created: Created, context: ClaimContext) -> CallToolResult:
        self.seen += 1

        async def look():
            request = GetTask(params=TaskParams(task_id=created.task_id))
            polled = await context.session.send_request(request, Polled)
            return polled.result if polled.status == "completed" else None

        return await eventually("the end of the task", look)


async def eventually(what, look):
    for _ in range(LOOKS_MAX):
        if found := await look():
            return found
        await asyncio.sleep(LOOK_S)
    raise AssertionError(f"{what}: not seen")


def text(result: CallToolResult) -> str:
    return "".join(getattr(block, "text", "") for block in result.content)


class Steps:
    def __init__(self, client: Client, tasks: Tasks, modern: bool):
        self.client, self.tasks, self.modern = client, tasks, modern

    async def list(self):
        names = [tool.name for tool in (await self.client.list_tools()).tools]
        assert {"greet", "slow_compute", "test_elicitation"} <= set(names), names

    async def call(self):
        assert text(await self.client.call_tool("greet", {"name": "Ada"})) == "Hello, Ada!"

    async def fail(self):
        assert (await self.client.call_tool("test_error_handling", {})).is_error

    async def elicit(self):
        told = text(await self.client.call_tool("test_elicitation", {"message": "Who are you?"}))
        assert "action=accept" in told and "ada@example.com" in told, told

    async def progress(self):
        seen = []

        async def note(progress, total, message):
            seen.append(progress)

        await self.client.call_tool("test_tool_with_progress", {}, progress_callback=note)
        assert seen == [0, 50, 100], seen

    async def cancel(self):
        label = f"cancelled-{os.getpid()}"
        call = asyncio.create_task(self.client.call_tool("slow_compute", {"seconds": 600, "label": label}))
        await asyncio.sleep(0.5)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

        async def look():
            return text(await self.client.call_tool("was_cancelled", {"label": label})) == "yes"

        await eventually("the end of the cancelled call", look)
        await self.call()

    async def task(self):
        arguments = {"seconds": 1, "label": "task"}
        if self.modern:
            result = await self.client.call_tool("slow_compute", arguments)
            assert self.tasks.seen == 1, "the call did not become a task"
        else:
            # Without the extension: by the gateway's own tools.
            submitted = await self.client.call_tool("task_submit", {"tool": "slow_compute", "arguments": arguments})
            task = {"task_id": submitted.structured_content["task_id"]}

            async def look():
                status = await self.client.call_tool("task_status", task)
                return status.structured_content["status"] == "completed"

            await eventually("the end of the task", look)
            result = await self.client.call_tool("task_result", task)
        assert text(result).startswith("slow_compute(task) done after 1"), text(result)


async def main(url: str, era: str, wanted: list[str]):
    async def person(context, params):
        return ElicitResult(action="accept", content={"username": "ada", "email": "ada@example.com"})

    modern = era == "modern"
    # Without the extension most calls of a modern client are plain ones, as they are of a legacy one.
    tasks = Tasks()
    extensions = [tasks] if modern and "task" in wanted else None
    mode = "2026-07-28" if modern else "legacy"
    async with Client(url, mode=mode, elicitation_callback=person, extensions=extensions) as client:
        steps = Steps(client, tasks, modern)
        for name in wanted:
            await getattr(steps, name)()
            print(f"ok {name}")


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
