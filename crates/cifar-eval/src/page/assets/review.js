// Decisions: kept in the browser's store, undone, saved as review.csv and loaded again.

const DECISIONS = ["accept", "relabel", "drop", "dismiss"];
const COLUMNS = ["id", "content", "file", "decision", "label", "note"];
const STORE = `cifar-review:${DATA.fingerprint}`;

/**
 * Decisions by id: `{ decision, label, note, content, file }`. Some may be about images that are not on this page; they are
 * kept, with the content and the file that they came with.
 */
const decisions = new Map(DATA.review.map(({ id, ...entry }) => [id, entry]));
const before = new Map(decisions);
const done = [];
const reviewListeners = [];

(function restore() {
  try {
    for (const [id, entry] of JSON.parse(store.get(STORE) ?? "[]")) {
      if (entry === null) decisions.delete(id);
      else if (DECISIONS.includes(entry.decision)) decisions.set(id, entry);
    }
  } catch {
    say("The decisions that this browser kept cannot be read; those of the file are shown.", true);
  }
})();

/** Sets or (with null) removes the decisions of some ids, as one step that can be undone. */
function change(entries) {
  done.push(entries.map(([id]) => [id, decisions.get(id) ?? null]));
  apply(entries);
}

function apply(entries) {
  for (const [id, entry] of entries) {
    if (entry === null) decisions.delete(id);
    else decisions.set(id, entry);
  }
  // Only what differs from the file is kept: once the file has it, the browser need not.
  const ids = new Set([...before.keys(), ...decisions.keys()]);
  const same = (a, b) => a && b && a.decision === b.decision && a.label === b.label && a.note === b.note;
  const differing = [...ids].filter((id) => !same(before.get(id), decisions.get(id)));
  if (!store.set(STORE, JSON.stringify(differing.map((id) => [id, decisions.get(id) ?? null])))) {
    say("This browser keeps no data for this page: save review.csv before you close it.", true);
  }
  for (const listener of reviewListeners) listener();
}

function undo() {
  const last = done.pop();
  if (!last) return say("There is nothing to undo.");
  apply(last);
  say(last.length === 1 ? `Undone: image ${last[0][0]}.` : `Undone: ${grouped(last.length)} images.`);
}

/** Decides about the image of a row. The note of before stays. */
function decide(row, decision, label = "") {
  const id = ROWS.id[row];
  if (decision === "accept") {
    if (ROWS.suggested[row] === null) return say(`There is no suggested label for image ${id}.`, true);
    label = CLASSES[ROWS.suggested[row]];
  }
  change([[id, { decision, label, note: decisions.get(id)?.note ?? "", content: ROWS.content[row], file: ROWS.file[row] }]]);
  say(`Image ${id}: ${inWords(decisions.get(id))}.`);
}

/** Writes a note on an image that has been decided about. */
function note(row, text) {
  const id = ROWS.id[row];
  const entry = decisions.get(id);
  if (!entry) return say("Decide first, then write a note.", true);
  if (entry.note !== text) change([[id, { ...entry, note: text }]]);
}

function inWords({ decision, label }) {
  switch (decision) {
    case "accept": return `accepted as ${label}`;
    case "relabel": return `relabelled to ${label}`;
    case "drop": return "dropped";
    default: return "dismissed, its label is right";
  }
}

/** Whether a spreadsheet would execute a cell. */
const isFormula = (text) => /^[=+\-@\t\r]/.test(text) && !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text);
/** A cell that no spreadsheet executes: one that looks like a formula gets an apostrophe before it. */
const neutral = (text) => (isFormula(text.replace(/^'+/, "")) ? `'${text}` : text);
/** The text that `neutral` made a cell from. */
const plain = (cell) => (cell.startsWith("'") && isFormula(cell.replace(/^'+/, "")) ? cell.slice(1) : cell);

/** review.csv, ids ascending. What an image shows and its file go beside its id, which another image may get one day. */
function reviewCsv() {
  const cell = (text) => {
    const safe = neutral(text);
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const lines = [...decisions].sort(([a], [b]) => a - b).map(([id, entry]) => {
    const row = PLACE.get(id);
    const [content, file] = row === undefined ? [entry.content ?? "", entry.file ?? ""] : [ROWS.content[row], ROWS.file[row]];
    return [String(id), content, file, entry.decision, entry.label, entry.note].map(cell).join(",");
  });
  return [COLUMNS.join(","), ...lines].join("\n") + "\n";
}

function saveReview() {
  const address = URL.createObjectURL(new Blob([reviewCsv()], { type: "text/csv" }));
  make("a", { href: address, download: "review.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  say(`Saved ${grouped(decisions.size)} decisions. The file goes to labels/review.csv.`);
}

/** The records of a CSV text that have any text: arrays of fields, each with the line where it begins. */
function parseCsv(text) {
  const records = [];
  let fields = [], field = "", quoted = false, closed = false, line = 1, start = 1;
  const endField = () => { fields.push(field.trim()); field = ""; closed = false; };
  const endRecord = () => {
    endField();
    if (fields.some((one) => one !== "")) records.push({ line: start, fields });
    fields = [];
  };
  text = text.replace(/^\uFEFF/, "").replace(/\r\n?/g, "\n");
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === "\n") line++;
    if (quoted) {
      if (character !== '"') field += character;
      else if (text[at + 1] === '"') { field += '"'; at++; }
      else { quoted = false; closed = true; }
    } else if (character === '"' && field.trim() === "" && !closed) { quoted = true; field = ""; }
    else if (character === ",") endField();
    else if (character === "\n") { endRecord(); start = line; }
    else if (closed && character !== " " && character !== "\t") {
      throw new Error(`line ${start}: a quotation mark is closed in the middle of a field`);
    } else field += character;
  }
  if (quoted) throw new Error(`line ${start}: a quotation mark is not closed`);
  if (field !== "" || fields.length > 0) endRecord();
  return records;
}

/** The sixteen digits of a content, which may be written without `b3:` and with more digits; null if it is none. */
function digitsOf(content) {
  const digits = content.replace(/^b3:/, "").toLowerCase();
  return /^[0-9a-f]{16,64}$/.test(digits) ? digits.slice(0, 16) : null;
}

/** The decisions of a review.csv; an error names the line, what was found and what is allowed. */
function readReview(text) {
  const [head, ...records] = parseCsv(text);
  const names = head?.fields ?? [];
  const place = Object.fromEntries(COLUMNS.map((name) => [name, names.indexOf(name)]));
  if (["id", "decision", "label"].some((name) => place[name] < 0)) {
    throw new Error(`line 1: found ${JSON.stringify(names.join(","))}, expected ${COLUMNS.join(",")}`);
  }
  const seen = new Set();
  const read = ({ line, fields }) => {
    while (fields.length > names.length && fields.at(-1) === "") fields.pop();
    if (fields.length !== names.length) throw new Error(`line ${line}: ${fields.length} fields, expected ${names.length}`);
    const [id, content, file, decision, label, note] =
      COLUMNS.map((name) => (place[name] < 0 ? "" : plain(fields[place[name]])));
    // A table of candidates may be filled in.
    if (decision === "") return null;
    if (!/^\d{1,10}$/.test(id)) throw new Error(`line ${line}: ${JSON.stringify(id)} is not an id`);
    if (seen.has(Number(id))) throw new Error(`line ${line}: image ${id} appears twice`);
    seen.add(Number(id));
    if (!DECISIONS.includes(decision)) {
      throw new Error(`line ${line}: ${JSON.stringify(decision)} is no decision; allowed are ${DECISIONS.join(", ")}`);
    }
    const labelled = decision === "accept" || decision === "relabel";
    if (labelled && !CLASSES.includes(label)) {
      throw new Error(`line ${line}: ${JSON.stringify(label)} is no class; allowed are ${CLASSES.join(", ")}`);
    }
    if (content !== "" && digitsOf(content) === null) {
      throw new Error(`line ${line}: content ${JSON.stringify(content)} is not the hash of an image`);
    }
    const row = PLACE.get(Number(id));
    if (content !== "" && row !== undefined && digitsOf(content) !== digitsOf(ROWS.content[row])) {
      const [then, now] = [[content, file], [ROWS.content[row], ROWS.file[row]]]
        .map(([hash, name]) => (name === "" ? hash : `${hash} (${name})`));
      throw new Error(`line ${line}: image ${id} is another one than when the line was written: it was ${then}, it is ${now}; `
        + "`cifar-cli labels migrate` moves the line to the id that its image has now");
    }
    return [Number(id), { decision, label: labelled ? label : "", note, content, file }];
  };
  return records.map(read).filter((entry) => entry !== null);
}

async function loadReview(file) {
  try {
    const entries = readReview(await file.text());
    if (entries.length > 0) change(entries);
    say(`Loaded ${grouped(entries.length)} decisions from ${file.name}.`);
  } catch (error) {
    say(`${file.name}, ${error.message}. Nothing was loaded.`, true);
  }
}
