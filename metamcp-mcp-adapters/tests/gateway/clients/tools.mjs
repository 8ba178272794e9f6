// Finds the SDKs in the tools folder, as the scripts do not stand beside them: node --import ./tools.mjs SCRIPT ...

import { registerHooks } from 'node:module';
import { pathToFileURL } from 'node:url';

const parentURL = pathToFileURL(`${process.env.METAMCP_TOOLS_DIR}/package.json`).href;
const here = new URL('.', import.meta.url).href;

registerHooks({
  resolve(name, context, next) {
    const ours = name.startsWith('@') && context.parentURL?.startsWith(here);
    return next(name, ours ? { ...context, parentURL } : context);
  },
});
