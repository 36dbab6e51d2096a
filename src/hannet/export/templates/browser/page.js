const MOST_BARS = 12; // of a classifier with more classes, the most probable
const MOST_OPTIONS = 40; // of a column with more words, an input that completes them
const SEVEN = [[[0.25, 0.2], [0.75, 0.2], [0.45, 0.85]]]; // what the self-test draws
const INCOMPLETE = "Fill in every number.";
const UNKNOWN = "\0"; // no cell of a table holds it
const $ = (id) => document.getElementById(id);
const form = $("inputs");
const result = $("result");
const bytes = Uint8Array.from(atob($("wasm").textContent), (letter) => letter.charCodeAt(0));
// At once where browsers allow it, so that the page is whole when it has loaded.
const module = bytes.length < 4e6 ? new WebAssembly.Module(bytes) : await WebAssembly.compile(bytes);
const model = new Model(new WebAssembly.Instance(module));

/** An element with properties and children; text is never read as HTML. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function say(text) {
  result.replaceChildren(make("p", { textContent: text }));
}

function show(row) {
  let found;
  try {
    found = SPEC.certifies ? model.certify(row) : { out: model.predict(row) };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return say(INCOMPLETE);
  }
  result.replaceChildren(...(model.classes.length ? bars(found.out) : numbers(found.out)));
  if (SPEC.certifies) result.append(make("p", { className: "radius", textContent: explain(found.radius) }));
}

function numbers(out) {
  const format = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 5 });
  return [make("small", { textContent: model.predicts }), ...Array.from(out, (y) => make("output", { textContent: format.format(y) }))];
}

function bars(out) {
  const order = [...out.keys()].sort((a, b) => out[b] - out[a]);
  const shown = out.length > MOST_BARS ? order.slice(0, MOST_BARS) : [...out.keys()];
  const lines = shown.map((place) => {
    const fill = make("div");
    fill.style.width = `${100 * out[place]}%`;
    const share = `${(100 * out[place]).toFixed(1)}%`;
    return make("li", {}, make("span", { textContent: model.classes[place], title: model.classes[place] }), make("div", { className: "bar" }, fill), share);
  });
  return [make("small", { textContent: model.predicts }), make("output", { textContent: model.classes[order[0]] }), make("ol", {}, ...lines)];
}

function explain(radius) {
  return radius > 0
    ? `Certified radius ${radius.toFixed(3)}: no smaller change (l2 norm) makes this page choose another class.`
    : "Nothing is certified for this input.";
}

/** Tables and numbers: a field for each column. */
function table() {
  const fields = SPEC.columns.map(field);
  form.append(make("div", { className: "fields" }, ...fields.map(({ label }) => label)));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.oninput = () => (form.checkValidity() ? show(fields.map(({ value }) => value())) : say(INCOMPLETE));
  form.oninput();
}

function field(column, place) {
  const id = `field${place}`;
  const [control, value] = !column.levels ? number(column) : column.levels.length > MOST_OPTIONS ? completion(column, id) : choice(column);
  return { label: make("label", {}, column.name, ...control), value };
}

function number(column) {
  const type = column.date ?? "number";
  const input = make("input", { type, step: "any", required: !column.optional, placeholder: column.optional ? "missing" : "" });
  if (column.mean !== undefined) input.value = Number(column.mean.toPrecision(3));
  return [[input], () => input.value];
}

function choice(column) {
  const options = column.levels.map((level) => make("option", { value: level, textContent: level }));
  options.push(make("option", { value: "", textContent: "(missing)" }), make("option", { value: UNKNOWN, textContent: "(another)" }));
  const select = make("select", {}, ...options);
  return [[select], () => select.value];
}

function completion(column, id) {
  const input = make("input", { value: column.levels[0], placeholder: "missing" });
  input.setAttribute("list", id);
  return [[input, make("datalist", { id }, ...column.levels.map((value) => make("option", { value })))], () => input.value];
}

/** Grey pictures whose classes are letters or digits: a pad to draw one. */
function pad() {
  const [, size] = SPEC.shape;
  const canvas = make("canvas", { className: "pad", width: 448, height: 448, role: "img", ariaLabel: "Draw here" });
  const seen = make("canvas", { width: size, height: size, role: "img", ariaLabel: "What the model sees" });
  const clear = make("button", { type: "button", textContent: "Clear" });
  form.append(canvas, make("div", { className: "tools" }, seen, make("small", { textContent: "what the model sees" }), clear));
  let strokes = [];
  let waiting = false;
  const refresh = () => {
    waiting = false;
    stroke(canvas, strokes, canvas.width / 12, (point) => point.map((part) => part * canvas.width));
    if (!strokes.length) return say("Draw one in the square.");
    show(centred(strokes, size, seen));
  };
  const later = () => {
    if (!waiting) requestAnimationFrame(refresh);
    waiting = true;
  };
  const add = (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    strokes.at(-1).push([(event.clientX - left) / width, (event.clientY - top) / height]);
    later();
  };
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    strokes.push([]);
    add(event);
  };
  canvas.onpointermove = (event) => canvas.hasPointerCapture(event.pointerId) && add(event);
  clear.onclick = () => {
    strokes = [];
    seen.getContext("2d").clearRect(0, 0, size, size);
    refresh();
  };
  refresh();
  return () => {
    strokes = SEVEN;
    refresh();
  };
}

/** White lines on black. */
function stroke(canvas, strokes, width, place) {
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  Object.assign(pen, { strokeStyle: "#fff", lineWidth: width, lineCap: "round", lineJoin: "round" });
  for (const points of strokes) {
    pen.beginPath();
    points.map(place).forEach(([x, y], index) => (index ? pen.lineTo(x, y) : (pen.moveTo(x, y), pen.lineTo(x, y + 0.01))));
    pen.stroke();
  }
  return pen;
}

/** As MNIST was made: the longer side 20 of 28 pixels, the centre of mass in the middle. Gives the pixels. */
function centred(strokes, size, seen) {
  const points = strokes.flat();
  const [low, high] = [Math.min, Math.max].map((of) => [0, 1].map((axis) => of(...points.map((point) => point[axis]))));
  const fine = 4 * size; // four by four of it are a pixel
  const line = fine / 12;
  const scale = ((fine * 20) / 28 - line) / Math.max(high[0] - low[0], high[1] - low[1], 0.15);
  const middle = low.map((part, axis) => (part + high[axis]) / 2);
  const large = make("canvas", { width: fine, height: fine });
  let shift = [fine / 2, fine / 2];
  let pixels;
  for (let pass = 0; pass < 2; pass++) {
    const pen = stroke(large, strokes, line, (point) => point.map((part, axis) => (part - middle[axis]) * scale + shift[axis]));
    pixels = average(pen.getImageData(0, 0, fine, fine).data, size);
    const mass = centre(pixels, size);
    shift = shift.map((part, axis) => part + 4 * ((size - 1) / 2 - mass[axis]));
  }
  preview(pixels, size, seen);
  return pixels;
}

function average(fine, size) {
  const pixels = new Uint8Array(size * size);
  for (let place = 0; place < pixels.length; place++) {
    let sum = 0;
    const start = 16 * (4 * Math.floor(place / size) * size + (place % size));
    for (let part = 0; part < 16; part++) sum += fine[start + 16 * size * (part >> 2) + 4 * (part & 3)];
    pixels[place] = sum / 16;
  }
  return pixels;
}

function centre(pixels, size) {
  const sums = [0, 0, 1e-9];
  pixels.forEach((value, place) => [place % size, Math.floor(place / size), 1].forEach((part, axis) => (sums[axis] += value * part)));
  return [sums[0] / sums[2], sums[1] / sums[2]];
}

/** Shows pixels, of channels one after the other. */
function preview(pixels, size, canvas) {
  const image = new ImageData(size, size);
  const area = size * size;
  image.data.forEach((_, place) => (image.data[place] = place % 4 === 3 ? 255 : pixels[((place % 4) * area) % pixels.length + (place >> 2)]));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Other pictures: a file, of which the middle square counts, as in `hannet predict`. */
function picture() {
  const [channels, size] = SPEC.shape;
  const input = make("input", { type: "file", accept: "image/*" });
  const seen = make("canvas", { width: size, height: size, role: "img", ariaLabel: "What the model sees" });
  form.append(make("label", {}, "A picture", input), make("div", { className: "tools" }, seen, make("small", { textContent: "what the model sees" })));
  input.onchange = async () => {
    if (!input.files.length) return;
    let image;
    try {
      image = await createImageBitmap(input.files[0]);
    } catch {
      return say("The browser cannot read this file as a picture.");
    }
    const pixels = squared(image, channels, size);
    preview(pixels, size, seen);
    show(pixels);
  };
  say("Choose a picture.");
}

function squared(image, channels, size) {
  const side = Math.min(image.width, image.height);
  const pen = make("canvas", { width: size, height: size }).getContext("2d");
  Object.assign(pen, { fillStyle: "#fff", imageSmoothingQuality: "high" });
  pen.fillRect(0, 0, size, size);
  pen.drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, size, size);
  const { data } = pen.getImageData(0, 0, size, size);
  const pixels = new Uint8Array(channels * size * size);
  for (let place = 0; place < size * size; place++) {
    const [red, green, blue] = data.subarray(4 * place, 4 * place + 3);
    const colours = channels === 3 ? [red, green, blue] : [(299 * red + 587 * green + 114 * blue + 500) / 1000];
    colours.forEach((value, channel) => (pixels[channel * size * size + place] = value));
  }
  return pixels;
}

/** Milliseconds that a prediction takes in the fastest of bursts of 4 ms, which other programs disturb least. */
function fastest() {
  let best = Infinity;
  const end = performance.now() + 800;
  for (let start = performance.now(); start < end; start = performance.now()) {
    let count = 0;
    let taken = 0;
    for (; taken < 4; taken = performance.now() - start)
      for (const { row } of SPEC.vectors) count += model.predict(row).length > 0;
    best = Math.min(best, taken / count);
  }
  return best;
}

/** For ?selftest: the test vectors, and the time that a prediction takes. */
function selftest() {
  let wrong = 0;
  for (const { row, expected, tolerance } of SPEC.vectors)
    model.predict(row).forEach((y, place) => (wrong += !(Math.abs(y - expected[place]) <= tolerance)));
  $("status").textContent = `Self-test: ${SPEC.vectors.length} rows, ${wrong} wrong outputs, ${fastest().toFixed(4)} ms a prediction.`;
}

const drawable = SPEC.shape?.[0] === 1 && model.classes.every((name) => [...name].length === 1);
const sample = SPEC.columns.length ? table() : drawable ? pad() : picture();
if (new URLSearchParams(location.search).has("selftest")) {
  selftest();
  sample?.();
}
