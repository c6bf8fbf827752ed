// Points on a canvas: the one under the pointer, and the next one in the direction of an arrow key.
// `place(at)` returns the position of the point at an index, in pixels.

/** The index of the point nearest to (x, y) within `reach` pixels; −1 if there is none. */
function nearestPoint(count, place, x, y, reach) {
  let [best, least] = [-1, reach * reach];
  for (let at = 0; at < count; at++) {
    const [px, py] = place(at);
    const distance = (px - x) ** 2 + (py - y) ** 2;
    if (distance < least) [best, least] = [at, distance];
  }
  return best;
}

/**
 * The nearest point to that at index `from` in the direction of an arrow key, or `from` if there is
 * none. A point counts if it is at least as far along the arrow's axis as across it. Null for other
 * keys.
 */
function pointBeside(key, count, place, from) {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  if (!way || count === 0) return null;
  if (from < 0) return 0;
  const [x, y] = place(from);
  let [best, least] = [from, Infinity];
  for (let at = 0; at < count; at++) {
    const [px, py] = place(at);
    const along = (px - x) * way[0] + (py - y) * way[1];
    const across = Math.abs((px - x) * way[1]) + Math.abs((py - y) * way[0]);
    if (along > 0.5 && across <= along && along + across < least) [best, least] = [at, along + across];
  }
  return best;
}
