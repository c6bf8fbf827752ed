// The gallery: a grid in which only the tiles near the window exist, so that 60,000 images scroll as well as 60.

const TILE = { width: 132, height: 154, picture: 96 };
/** Lines of tiles that are kept above and below the window. */
const SPARE = 3;

/** The place in `matching` of the image that keys act on. */
let current = 0;
const tiles = new Map();
let across = 1;

function setUpGallery() {
  const grid = byId("grid");
  grid.addEventListener("click", ({ target }) => {
    const tile = target.closest(".tile");
    if (tile) openAt(Number(tile.dataset.at));
  });
  addEventListener("scroll", () => requestAnimationFrame(showTiles), { passive: true });
  addEventListener("resize", () => { layOut(); });
  filterListeners.push(() => { current = 0; clearTiles(); layOut(); summarise(); });
  reviewListeners.push(() => { clearTiles(); showTiles(); });
}

function clearTiles() {
  for (const tile of tiles.values()) tile.remove();
  tiles.clear();
}

/** Height of the grid and number of tiles a line, from the room there is. */
function layOut() {
  const grid = byId("grid");
  if (grid.clientWidth === 0) return;
  const fitting = Math.max(1, Math.floor(grid.clientWidth / TILE.width));
  if (fitting !== across) clearTiles();
  across = fitting;
  grid.style.height = `${Math.ceil(matching.length / across) * TILE.height}px`;
  showTiles();
}

/** Makes the tiles near the window and removes the others. */
function showTiles() {
  const grid = byId("grid");
  if (grid.clientWidth === 0) return;
  const top = -grid.getBoundingClientRect().top;
  const first = Math.max(0, (Math.floor(top / TILE.height) - SPARE) * across);
  const last = Math.min(matching.length, (Math.ceil((top + innerHeight) / TILE.height) + SPARE) * across);
  for (const [at, tile] of tiles) {
    if (at < first || at >= last) { tile.remove(); tiles.delete(at); }
  }
  for (let at = first; at < last; at++) {
    if (tiles.has(at)) continue;
    const made = makeTile(at);
    tiles.set(at, made);
    grid.append(made);
  }
}

function makeTile(at) {
  const row = matching[at];
  const entry = decisions.get(ROWS.id[row]);
  const [left, top] = [(at % across) * TILE.width, Math.floor(at / across) * TILE.height];
  const shown = filter.sort === "rank" || filter.sort === "id" ? `#${ROWS.id[row]}` : `${MEASURES.get(filter.sort).title} ${figure(measure(filter.sort, row))}`;
  const tile = make("button", {
    type: "button",
    className: "tile",
    tabIndex: at === current ? 0 : -1,
    title: reasonOf(row),
    "aria-label": `image ${ROWS.id[row]}, labelled ${labelOf(row)}, predicted ${predictedOf(row)}${categoryOf(row) ? `, ${categoryOf(row)}` : ""}${entry ? `, ${inWords(entry)}` : ""}`,
    "data-at": at,
  },
    picture(row, TILE.picture),
    make("span", { className: "names" }, labelOf(row), isMissed(row) ? make("span", { className: "missed", textContent: ` → ${predictedOf(row)}` }) : null),
    make("span", { className: "more", textContent: `${shown} · ${splitOf(row)}` }));
  if (entry) tile.append(make("span", { className: `badge ${entry.decision}`, textContent: entry.label || entry.decision }));
  tile.style.cssText = `left:${left}px;top:${top}px;--category:${colourOf(categoryOf(row))}`;
  const item = make("div", { role: "listitem", className: at === current ? "item current" : "item" }, tile);
  return item;
}

function summarise() {
  const pictured = matching.filter((row) => PICTURE[row] >= 0).length;
  const without = matching.length - pictured;
  byId("gallery-summary").textContent = matching.length === 0
    ? "No image passes these filters."
    : `${grouped(matching.length)} of ${grouped(COUNT)} images${without > 0 ? `, ${grouped(without)} of them without a picture in this file` : ""}.`;
  byId("gallery-count").textContent = grouped(matching.length);
}

/** Moves the current place by `step` images and brings it into view. */
function move(step) {
  if (matching.length === 0) return;
  goTo(Math.min(matching.length - 1, Math.max(0, current + step)));
}

function goTo(at) {
  const old = tiles.get(current);
  if (old) { old.classList.remove("current"); old.firstChild.tabIndex = -1; }
  current = at;
  const grid = byId("grid");
  if (grid.clientWidth === 0) return;
  const header = document.querySelector("header.top").getBoundingClientRect().bottom;
  const top = grid.getBoundingClientRect().top + Math.floor(at / across) * TILE.height;
  if (top < header) scrollBy(0, top - header - 8);
  else if (top + TILE.height > innerHeight) scrollBy(0, top + TILE.height - innerHeight + 8);
  showTiles();
  const item = tiles.get(at);
  item.classList.add("current");
  item.firstChild.tabIndex = 0;
  if (!byId("detail").open) item.firstChild.focus({ preventScroll: true });
}
