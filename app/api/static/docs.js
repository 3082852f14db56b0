"use strict";
// Shows /openapi.json and /types. Text from them is only ever set as text, never as markup.

const METHODS = ["get", "post", "put", "patch", "delete"];

function restoreKey() {
  const input = document.getElementById("key");
  input.value = sessionStorage.getItem("key") || ""; // as long as the tab is open
  input.addEventListener("change", () => {
    sessionStorage.setItem("key", input.value.trim());
    showTypes();
  });
}

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const prose = (text) =>
  (text || "").split(/(`[^`]+`)/).map((part) =>
    part.length > 2 && part.startsWith("`") ? element("code", { textContent: part.slice(1, -1) }) : part);

/* Schemas */

function range(least, most, unit) {
  if (most === undefined) return least === undefined ? "" : `at least ${least}${unit}`;
  return least === undefined ? `up to ${most}${unit}` : `${least} to ${most}${unit}`;
}

class Schemas {
  constructor(definitions, prefix, anchors) {
    this.definitions = definitions;
    this.prefix = prefix; // of a $ref, before the name
    this.anchors = anchors; // whether a name has a place on the page to link to
  }

  named(schema) {
    return schema && schema.$ref ? schema.$ref.slice(this.prefix.length) : null;
  }

  resolve(schema) {
    const name = this.named(schema);
    return name ? this.definitions[name] || {} : schema || {};
  }

  type(schema) {
    const name = this.named(schema);
    if (name) return this.anchors ? [element("a", { href: `#schema-${name}`, textContent: name })] : [name];
    const several = schema.anyOf || schema.oneOf || schema.allOf;
    if (several) return several.flatMap((one, index) => [index ? " or " : "", ...this.type(one)]);
    if (schema.const !== undefined) return [JSON.stringify(schema.const)];
    if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" | ")];
    if (schema.contentSchema) return ["JSON of ", ...this.type(schema.contentSchema)];
    if (schema.type === "array") return ["array of ", ...this.type(schema.items || {})];
    const any = Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type || "any JSON";
    return [schema.format ? `${any} (${schema.format})` : any];
  }

  bounds(schema) {
    const told = [schema, ...(schema.anyOf || [])].flatMap((one) => [
      range(one.minimum, one.maximum, ""), one.exclusiveMinimum === undefined ? "" : `more than ${one.exclusiveMinimum}`,
      range(one.minLength, one.maxLength, " characters"), range(one.minItems, one.maxItems, " items"),
    ]);
    if (schema.default !== undefined && schema.default !== null) told.push(`default ${JSON.stringify(schema.default)}`);
    return told.filter(Boolean).join(", ");
  }

  list(schema, depth = 0) {
    const resolved = this.resolve(schema);
    const rows = Object.entries(resolved.properties || {}).map(([name, property]) => {
      const wanted = (resolved.required || []).includes(name);
      return element("li", {},
        element("code", { textContent: name }), " ",
        element("span", { className: "soft" }, ...this.type(property), wanted ? ", required" : "",
          this.bounds(property) ? `, ${this.bounds(property)}` : ""),
        " ", ...prose(property.description), this.inner(property, depth));
    });
    if (rows.length) return element("ul", { className: "schema" }, ...rows);
    return element("p", { className: "soft" }, ...this.type(resolved), resolved.description ? `. ${resolved.description}` : "");
  }

  // What has no place of its own on the page is shown where it is used.
  inner(property, depth) {
    const inside = this.resolve(property.items || property);
    return !this.anchors && depth < 6 && inside.properties ? this.list(inside, depth + 1) : null;
  }
}

/* Operations */

function parameterRows(operation, inputs) {
  return (operation.parameters || []).map((parameter) => {
    const schemas = page.schemas;
    const input = element("input", { name: parameter.name, placeholder: parameter.in });
    input.setAttribute("aria-label", parameter.name);
    inputs.push({ parameter, input });
    return element("tr", {},
      element("td", {}, element("code", { textContent: parameter.name }), parameter.required ? " *" : ""),
      element("td", {}, element("span", { className: "soft" }, ...schemas.type(parameter.schema),
        schemas.bounds(parameter.schema) ? `, ${schemas.bounds(parameter.schema)}` : ""),
        " ", ...prose(parameter.description || parameter.schema.description)),
      element("td", {}, input));
  });
}

function requestBody(operation) {
  if (!operation.requestBody) return null;
  const media = operation.requestBody.content["application/json"];
  const examples = Object.values(media.examples || {});
  const text = element("textarea", { spellcheck: false });
  text.setAttribute("aria-label", "Request body");
  const fill = (value) => { text.value = JSON.stringify(value, null, 2); };
  if (examples.length) fill(examples[0].value);
  const choice = element("select", { onchange: () => fill(examples[choice.selectedIndex].value) },
    ...examples.map((example) => element("option", { textContent: example.summary })));
  choice.setAttribute("aria-label", "Example");
  return {
    text,
    shown: [element("h4", { textContent: "Request body" }),
      element("p", {}, ...page.schemas.type(media.schema)),
      page.schemas.list(media.schema),
      element("h4", { textContent: "Try it" }), examples.length > 1 ? choice : null, text],
  };
}

function responseRows(operation) {
  return Object.entries(operation.responses).map(([status, response]) =>
    element("tr", {},
      element("td", {}, element("code", { textContent: status })),
      element("td", {}, ...prose(response.description)),
      element("td", { className: "soft" },
        ...Object.entries(response.content || {}).flatMap(([, media], index) =>
          [index ? " or " : "", ...page.schemas.type(media.schema)]))));
}

function address(path, inputs) {
  const query = new URLSearchParams();
  let filled = path;
  for (const { parameter, input } of inputs) {
    if (parameter.in === "path") filled = filled.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (parameter.in === "query" && input.value !== "") {
      const several = page.schemas.resolve(parameter.schema).type === "array";
      for (const value of several ? input.value.split(/[\s,]+/) : [input.value]) query.append(parameter.name, value);
    }
  }
  return query.size ? `${filled}?${query}` : filled;
}

const headerInputs = (inputs) => Object.fromEntries(inputs
  .filter(({ parameter, input }) => parameter.in === "header" && input.value !== "")
  .map(({ parameter, input }) => [parameter.name, input.value]));

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const key = () => document.getElementById("key").value.trim();

// The key is shown nowhere: neither in the line to copy nor in an address.
const authorized = (headers) => (key() ? { ...headers, Authorization: `Bearer ${key()}` } : headers);

function curlLine(method, url, headers, body) {
  const parts = ["curl", method === "GET" ? "" : `-X ${method}`, quoted(location.origin + url),
    key() ? '-H "Authorization: Bearer $ARQIVE_KEY"' : "",
    ...Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`),
    body ? `-H 'Content-Type: application/json' -d ${quoted(body)}` : ""];
  return parts.filter(Boolean).join(" ");
}

const MAX_SHOWN = 20000; // characters of a stream, its end

// A stream is shown as it comes, until the button is pressed again.
async function follow(response, head, output, button) {
  output.hidden = false;
  button.disabled = false;
  button.textContent = "Stop";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const stop = () => reader.cancel();
  button.addEventListener("click", stop);
  let shown = "";
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      shown = (shown + part.value).slice(-MAX_SHOWN);
      output.textContent = `${head}\n${shown}`;
    }
  } finally {
    button.removeEventListener("click", stop);
    button.textContent = "Send";
  }
}

async function send(method, url, headers, body, output, button) {
  if (button.textContent === "Stop") return; // the click was for the stream
  button.disabled = true;
  const started = performance.now();
  try {
    const response = await fetch(url, body
      ? { method, body, headers: authorized({ ...headers, "Content-Type": "application/json" }) }
      : { method, headers: authorized(headers) });
    const took = () => Math.round(performance.now() - started);
    const line = curlLine(method, url, headers, body);
    const head = () => `${line}\n\n${response.status} ${response.statusText} in ${took()} ms`;
    if ((response.headers.get("Content-Type") || "").startsWith("text/event-stream")) {
      await follow(response, head(), output, button);
    } else {
      const text = await response.text();
      output.textContent = `${head()}\n${pretty(text)}`;
    }
  } catch (error) {
    output.textContent = `No answer: ${error.message}`;
  }
  output.hidden = false;
  button.disabled = false;
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

function operationCard(path, method, operation) {
  const inputs = [];
  const parameters = parameterRows(operation, inputs);
  const body = requestBody(operation);
  const output = element("pre", { hidden: true });
  const button = element("button", { type: "button", textContent: "Send" });
  button.addEventListener("click", () =>
    send(method.toUpperCase(), address(path, inputs), headerInputs(inputs), body ? body.text.value.trim() : "", output, button));
  return element("article", { id: operation.operationId, className: "operation" },
    element("details", {},
      element("summary", {},
        element("span", { className: `method ${method}`, textContent: method.toUpperCase() }),
        element("code", { className: "path", textContent: path }),
        element("span", { className: "summary", textContent: operation.summary || "" })),
      element("div", {},
        parameters.length ? element("h4", { textContent: "Parameters" }) : null,
        parameters.length ? element("table", {}, ...parameters) : null,
        ...(body ? body.shown : []),
        button, output,
        element("h4", { textContent: "Answers" }),
        element("table", {}, ...responseRows(operation)))));
}

function card(id, title, summary, ...content) {
  return element("article", { id },
    element("details", {},
      element("summary", {}, element("code", { className: "path", textContent: title }),
        element("span", { className: "summary", textContent: summary })),
      element("div", {}, ...content)));
}

/* The page */

const page = { schemas: null };

function chapter(title, description, cards, links) {
  document.getElementById("operations").append(
    element("h2", { id: title, textContent: title }), element("p", { className: "soft" }, ...prose(description)), ...cards);
  document.getElementById("contents").append(element("h3", { textContent: title }), ...links);
}

const link = (id, text) => element("a", { href: `#${id}`, textContent: text });

function showOperations(api) {
  const all = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, operation: item[method] })));
  for (const tag of api.tags || []) {
    const of = all.filter(({ operation }) => operation.tags.includes(tag.name));
    chapter(tag.name, tag.description,
      of.map(({ path, method, operation }) => operationCard(path, method, operation)),
      of.map(({ path, method, operation }) => link(operation.operationId, `${method.toUpperCase()} ${path}`)));
  }
}

async function showTypes() {
  const response = await fetch("/types", { headers: authorized({}) });
  if (!response.ok || document.getElementById("task types")) return;
  const { items } = await response.json();
  chapter("task types", "What a task can be here; the payload is checked against the type's model.",
    items.map((type) => card(`type-${type.name}`, type.name, type.summary,
      element("p", { className: "soft", textContent: `${type.max_attempts} attempts of ${type.timeout} s each unless the task says otherwise` }),
      element("h4", { textContent: "Payload" }),
      new Schemas(type.payload_schema.$defs || {}, "#/$defs/", false).list(type.payload_schema))),
    items.map((type) => link(`type-${type.name}`, type.name)));
}

function showSchemas(api) {
  const named = Object.entries(api.components.schemas);
  chapter("schemas", "What is sent and received.",
    named.map(([name, schema]) => card(`schema-${name}`, name, "", element("p", {}, ...prose(schema.description)), page.schemas.list(schema))),
    named.map(([name]) => link(`schema-${name}`, name)));
}

function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.firstElementChild) {
    target.firstElementChild.open = true;
    target.scrollIntoView();
  }
}

async function start() {
  const about = document.getElementById("about");
  restoreKey();
  try {
    const response = await fetch("/openapi.json");
    const api = await response.json();
    page.schemas = new Schemas(api.components.schemas, "#/components/schemas/", true);
    document.getElementById("version").textContent = api.info.version;
    about.textContent = api.info.description;
    showOperations(api);
    await showTypes();
    showSchemas(api);
    openTarget();
  } catch (error) {
    about.className = "failed";
    about.textContent = `Cannot show the document: ${error.message}`;
  }
}

addEventListener("hashchange", openTarget);
start();
