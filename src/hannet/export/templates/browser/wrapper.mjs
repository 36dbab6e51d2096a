// @KIND@, written by hannet @VERSION@. No dependencies: for browsers, Node, Deno, Bun and workers.

const SPEC = @SPEC@;

@MODEL@
/** Loads the model from @NAME@.wasm beside this file, or from its bytes, a WebAssembly.Module or a Response. */
export async function load(source) {
  source ??= await open(new URL("./@NAME@.wasm", import.meta.url));
  if (source instanceof WebAssembly.Module) return new Model(await WebAssembly.instantiate(source));
  const bytes = source instanceof Response ? await source.arrayBuffer() : source;
  return new Model((await WebAssembly.instantiate(bytes)).instance);
}

async function open(url) {
  return url.protocol === "file:" ? (await import("node:fs/promises")).readFile(url) : fetch(url);
}

export { Model };
