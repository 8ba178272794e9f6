// A client of npm's @modelcontextprotocol/sdk, which knows the `initialize` revisions only.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';

import { answer, by_the_gateways_tools, steps, take } from './steps.mjs';

const [url, , ...wanted] = process.argv.slice(2);
const client = new Client({ name: 'sdk-v1', version: '1' }, { capabilities: { elicitation: { form: {} } } });
client.setRequestHandler(ElicitRequestSchema, async () => answer);
await client.connect(new StreamableHTTPClientTransport(new URL(url)));

const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);
await take(
  steps({
    call,
    list: async () => (await client.listTools()).tools.map((tool) => tool.name),
    task: by_the_gateways_tools(call),
  }),
  wanted,
);
await client.close();
