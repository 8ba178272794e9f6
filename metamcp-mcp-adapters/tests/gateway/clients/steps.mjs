// What a client in JavaScript does with the gateway, whatever SDK it is made with. Each step throws when it does not get what it should.
// Usage of the scripts beside this one: node SCRIPT URL ERA STEP...

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

/// How often, and with which pause in milliseconds, something is looked for that is sure to come.
const LOOKS_MAX = 300;
const LOOK_MS = 100;

export const text = (result) => result.content.map((block) => block.text ?? '').join('');

export async function eventually(what, look) {
  for (let look_number = 0; look_number < LOOKS_MAX; look_number++) {
    const found = await look();
    if (found) return found;
    await pause(LOOK_MS);
  }
  throw new Error(`${what}: not seen`);
}

/// `call(name, args, options)` gives the result of a tool, `list()` the names of all tools.
export function steps({ call, list, task }) {
  return {
    async list() {
      const names = await list();
      for (const name of ['greet', 'slow_compute', 'test_elicitation']) {
        assert.ok(names.includes(name), `${name} is not among ${names}`);
      }
    },
    async call() {
      assert.equal(text(await call('greet', { name: 'Ada' })), 'Hello, Ada!');
    },
    async fail() {
      const result = await call('test_error_handling', {});
      assert.equal(result.isError, true);
    },
    async elicit() {
      const told = text(await call('test_elicitation', { message: 'Who are you?' }));
      assert.match(told, /action=accept/);
      assert.match(told, /ada@example\.com/);
    },
    async progress() {
      const seen = [];
      await call('test_tool_with_progress', {}, { onprogress: (report) => seen.push(report.progress) });
      assert.deepEqual(seen, [0, 50, 100]);
    },
    async cancel() {
      const label = `cancelled-${process.pid}`;
      const stop = new AbortController();
      const call_off = call('slow_compute', { seconds: 600, label }, { signal: stop.signal });
      setTimeout(() => stop.abort('enough'), 500);
      await assert.rejects(call_off);
      await eventually('the end of the cancelled call', async () => text(await call('was_cancelled', { label })) === 'yes');
      assert.equal(text(await call('greet', { name: 'Ada' })), 'Hello, Ada!');
    },
    async task() {
      assert.equal(text(await task('slow_compute', { seconds: 1, label: 'task' })), 'slow_compute(task) done after 1s');
    },
  };
}

/// Runs a task without the extension: by the gateway's own tools.
export const by_the_gateways_tools = (call) => async (name, args) => {
  const { task_id } = (await call('task_submit', { tool: name, arguments: args })).structuredContent;
  const ended = async () => (await call('task_status', { task_id })).structuredContent.status === 'completed';
  await eventually('the end of the task', ended);
  return call('task_result', { task_id });
};

/// Takes the steps that were asked for, one after the other.
export async function take(all, wanted) {
  for (const name of wanted) {
    assert.ok(name in all, `no step ${name}`);
    await all[name]();
    console.log(`ok ${name}`);
  }
}

/// The answer of a person to `test_elicitation`.
export const answer = { action: 'accept', content: { username: 'ada', email: 'ada@example.com' } };
