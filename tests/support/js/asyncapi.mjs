// Parses the AsyncAPI document on standard input and prints the diagnostics that are errors or warnings, as JSON.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const WARNING = 1;
const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const problems = diagnostics
  .filter(({ severity }) => severity <= WARNING)
  .map(({ code, message, path }) => ({ code, message, path: path.join(".") }));
const channels = document ? document.channels().all().map((channel) => channel.address()) : [];
console.log(JSON.stringify({ version: document?.version(), channels, problems }));
