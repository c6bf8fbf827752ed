// Small helpers for elements and figures. Texts go in as text nodes, never as HTML.

const byId = (id) => document.getElementById(id);

/** An element with properties (`data-…` and `aria-…` as attributes) and children. */
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
const percent = (share) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;

/** A measure's value for people; a dash where there is none. */
function figure(value) {
  if (value === null || value === undefined) return "–";
  return Number.isInteger(value) ? String(value).replace("-", "−") : value.toPrecision(3).replace("-", "−");
}

let messageTimer = 0;

/** Tells what has happened, for some seconds; what went wrong stays longer. */
function say(text, wrong = false) {
  const place = byId("message");
  place.textContent = text;
  place.classList.toggle("wrong", wrong);
  // As a popover it lies above an open dialog; shown again, above one that was opened later.
  if (place.matches(":popover-open")) place.hidePopover();
  place.showPopover();
  clearTimeout(messageTimer);
  messageTimer = setTimeout(() => place.hidePopover(), wrong ? 15000 : 4000);
}

/** The browser's store for this page, if it has one. */
const store = {
  get(key) {
    try { return localStorage.getItem(key); } catch { return null; }
  },
  /** False if nothing could be kept. */
  set(key, value) {
    try { localStorage.setItem(key, value); return true; } catch { return false; }
  },
};

/** The colour of a category: Okabe and Ito's palette, which colour-blind people can tell apart. */
const PALETTE = ["#d55e00", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9"];
const FLAGGED = DATA.categories.filter((name) => name !== "").sort();
function colourOf(category) {
  const at = FLAGGED.indexOf(category);
  return at < 0 ? "var(--line)" : PALETTE[at % PALETTE.length];
}
