/** The model in an instance of its WebAssembly. Calls share its memory: give each worker an instance of its own. */
class Model {
  #wasm;
  #row;
  #out;

  constructor(instance) {
    const { kind, sha256, columns, classes, predicts } = SPEC;
    Object.assign(this, { kind, sha256, columns, classes, predicts });
    this.#wasm = instance.exports;
    const { buffer } = this.#wasm.memory;
    this.#row = new (SPEC.pixels ? Uint8Array : Float32Array)(buffer, this.#wasm.row(), SPEC.inputs);
    this.#out = new Float32Array(buffer, this.#wasm.out(), SPEC.outputs);
  }

  /** The outputs, predictions or probabilities of a row. */
  predict(row) {
    this.#fill(row);
    if (this.#wasm.predict() !== 0) throw new RangeError("a number of the row is missing or infinite");
    return this.#out.slice();
  }

  /** The same, and how far the row may move, by the l2 distance, before this very code gives another class. */
  certify(row) {
    if (!SPEC.certifies) throw new TypeError("this model certifies no radius");
    this.#fill(row);
    if (this.#wasm.certify() !== 0) throw new RangeError("a number of the row is missing or infinite");
    return { out: this.#out.slice(), radius: this.#wasm.radius() };
  }

  /** The outputs of the members in units, as integers, for the last row. */
  integers() {
    if (!SPEC.members) throw new TypeError("this model computes in floating point");
    const { memory, integers } = this.#wasm;
    return new Int32Array(memory.buffer, integers(), SPEC.members * SPEC.outputs).slice();
  }

  #fill(row) {
    const values = Array.isArray(row) || ArrayBuffer.isView(row) ? row : SPEC.columns.map(({ name }) => row[name]);
    if (values.length !== SPEC.inputs) throw new TypeError(`a row has ${SPEC.inputs} values, got ${values.length}`);
    if (!SPEC.columns.length) this.#row.set(values);
    else SPEC.columns.forEach((column, place) => (this.#row[place] = encode(column, values[place])));
  }
}

/** What the WebAssembly takes for a value of a column: a number, days for a date, the place of a word, -1 for an unknown one, NaN for none. */
function encode(column, value) {
  const text = String(value ?? "").trim();
  if (column.date) return days(value instanceof Date ? value.getTime() / 864e5 : text);
  if (!column.levels) return text === "" ? NaN : Number(text);
  const place = column.levels.indexOf(text);
  if (place >= 0) return place;
  return text === "" || column.missing.includes(text.toLowerCase()) ? NaN : -1;
}

/** Days since 1970 of a number of them, or of a time such as 2024-05-17T12:30 in UTC; of 12:30 the fraction of a day. */
function days(value) {
  const text = String(value).replace(" ", "T");
  if (/^\d\d:\d\d/.test(text)) return Date.parse(`1970-01-01T${text}Z`) / 864e5;
  if (!/^\d{4}-/.test(text)) return text === "" ? NaN : Number(text);
  return Date.parse(/T[^Z+-]*$/.test(text) ? `${text}Z` : text) / 864e5;
}
