// Runs a recipe in JavaScript of `docs/how-to/check-in-code.md` in each case. Standard input and output as in recipe_runner.py.

import { writeFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

const plan = JSON.parse(await text(process.stdin));
const outcomes = {};
for (const { name, gate, key, to, code } of plan.cases) {
  Object.assign(process.env, { DIALGATE_URL: gate, DIALGATE_KEY: key });
  await fetch(`${plan.control}/begin/${name}`);
  const file = `recipe-${plan.recipe}-${name}.mjs`;
  writeFileSync(file, plan.code + code);
  const recipe = await import(pathToFileURL(file));
  if (recipe.client) recipe.client.api.baseUrl = recipe.client.studio.baseUrl = plan.platform;
  try {
    await (recipe.instead ?? recipe.dial)(to, plan.from);
    outcomes[name] = "dialled";
  } catch (error) {
    outcomes[name] = `${error.name}: ${error.message}`;
  }
}
process.stdout.write(JSON.stringify(outcomes), () => process.exit());
