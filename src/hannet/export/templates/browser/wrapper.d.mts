// @KIND@, written by hannet @VERSION@.

/** A column: of words if it has levels, of dates if it has that, else of numbers. */
export interface Column {
  readonly name: string;
  /** The words that the model knows. */
  readonly levels?: readonly string[];
  /** Words, in small letters, that count as missing in any case. */
  readonly missing?: readonly string[];
  /** Of dates, which input asks for them; a time is a fraction of a day, others are days since 1970. */
  readonly date?: "date" | "datetime-local" | "time";
  /** Whether a number may be missing. */
  readonly optional?: boolean;
  /** The average number in training. */
  readonly mean?: number;
}

/** A number, a word, a date, days since 1970, an ISO time in UTC, or nothing where a value is missing. */
export type Value = number | string | Date | null | undefined;
export type Row = ArrayLike<number> | readonly Value[] | Readonly<Record<string, Value>>;

/** The model in an instance of its WebAssembly. Calls share its memory: give each worker an instance of its own. */
export declare class Model {
  readonly kind: string;
  readonly sha256: string;
  /** None for a network or images, whose rows are arrays of numbers: @SHAPE@. */
  readonly columns: readonly Column[];
  /** Of a classifier, in the order of its probabilities. */
  readonly classes: readonly string[];
  /** Name of what is predicted. */
  readonly predicts: string;
  /** The outputs, predictions or probabilities of a row: in the order of the columns, or by their names. Throws RangeError or TypeError. */
  predict(row: Row): Float32Array;
  /** The same, and how far the row may move, by the l2 distance, before this very code gives another class. */
  certify(row: Row): { out: Float32Array; radius: number };
  /** The outputs of the members in units, as integers, for the last row. */
  integers(): Int32Array;
}

/** Loads the model from @NAME@.wasm beside this file, or from its bytes, a WebAssembly.Module or a Response. */
export declare function load(source?: BufferSource | WebAssembly.Module | Response): Promise<Model>;
