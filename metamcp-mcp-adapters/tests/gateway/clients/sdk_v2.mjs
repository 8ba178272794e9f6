// A client of npm's @modelcontextprotocol/client, which knows both eras.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { createTaskSessionFromClient, resultFromTaskOutcome } from '@modelcontextprotocol/ext-tasks/client';

import { answer, by_the_gateways_tools, steps, take } from './steps.mjs';

const TASKS = 'io.modelcontextprotocol/tasks';
const clientInfo = { name: 'sdk-v2', version: '1' };
const capabilities = { elicitation: { form: {} } };

const [url, era, ...wanted] = process.argv.slice(2);
const modern = era === 'modern';
const versionNegotiation = { mode: modern ? { pin: '2026-07-28' } : 'legacy' };
const client = new Client(clientInfo, { capabilities, versionNegotiation });
client.setRequestHandler('elicitation/create', async () => answer);
await client.connect(new StreamableHTTPClientTransport(new URL(url)));

const call = (name, args, options) => client.callTool({ name, arguments: args }, options);
await take(
  steps({
    call,
    list: async () => (await client.listTools()).tools.map((tool) => tool.name),
    task: modern ? by_the_extension : by_the_gateways_tools(call),
  }),
  wanted,
);
await client.close();

/// By the extension, with the package that npm has for it.
async function by_the_extension(name, args) {
  const protocolVersion = '2026-07-28';
  const clientCapabilities = { ...capabilities, extensions: { [TASKS]: {} } };
  // The package frames requests, the SDK refuses to send them: they go out here.
  let last = 0;
  const rawDispatch = async ({ method, params }, { signal } = {}) => {
    const id = `task-${++last}`;
    const headers = {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': protocolVersion,
      'mcp-method': method,
      'mcp-name': params.name ?? params.taskId,
    };
    const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ jsonrpc: '2.0', id, method, params }), signal });
    const body = await response.text();
    if (!response.headers.get('content-type')?.startsWith('text/event-stream')) return JSON.parse(body);
    const lines = body.split('\n').filter((line) => line.startsWith('data: {'));
    return lines.map((line) => JSON.parse(line.slice('data: '.length))).find((message) => message.id === id);
  };
  const framing = { protocolVersion, clientInfo, clientCapabilities };
  const session = createTaskSessionFromClient(client, { endpointId: 'test', rawDispatch, v2RequestFraming: framing });
  try {
    const execution = await session.callTool(name, args);
    if (execution.kind !== 'task') throw new Error('the call did not become a task');
    const { outcome } = await execution.settle();
    return resultFromTaskOutcome(outcome);
  } finally {
    await session.close();
  }
}
