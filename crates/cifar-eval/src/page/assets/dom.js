// Elements, number formats, messages and the browser's storage. Text is always inserted as text
// nodes, never as HTML.

const byId = (id) => document.getElementById(id);

/** Creates an element with properties (`data-…` and `aria-…` as attributes) and children. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for" || name === "scope") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const option = (value, text) => make("option", { value, textContent: text });

const grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");
const percent = (fraction) => `${(fraction * 100).toFixed(fraction < 0.1 ? 1 : 0)} %`;

/** Formats the value of a measure, with a dash for an empty one. */
function formatted(value) {
  if (value === null || value === undefined) return "–";
  return Number.isInteger(value) ? String(value).replace("-", "−") : value.toPrecision(3).replace("-", "−");
}

let messageTimer = 0;

/** Shows a message for some seconds. Errors stay longer. */
function say(text, wrong = false) {
  const message = byId("message");
  message.textContent = text;
  message.classList.toggle("wrong", wrong);
  // A popover is above an open dialog. Showing it again puts it above a dialog opened later.
  if (message.matches(":popover-open")) message.hidePopover();
  message.showPopover();
  clearTimeout(messageTimer);
  messageTimer = setTimeout(() => message.hidePopover(), wrong ? 15000 : 4000);
}

/** The browser's local storage, if it is available. */
const store = {
  get(key) {
    try { return localStorage.getItem(key); } catch { return null; }
  },
  /** Returns false if the value could not be stored. */
  set(key, value) {
    try { localStorage.setItem(key, value); return true; } catch { return false; }
  },
};

/** Colours of the categories: Okabe and Ito's palette, which is safe for colour-blind readers. */
const PALETTE = ["#d55e00", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9"];
const FLAGGED = DATA.categories.filter((name) => name !== "").sort();
function colourOf(category) {
  const at = FLAGGED.indexOf(category);
  return at < 0 ? "var(--line)" : PALETTE[at % PALETTE.length];
}
