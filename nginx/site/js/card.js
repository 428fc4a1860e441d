// The title card of an episode: a landscape from its seed, and a title from its opening.

import { lettering } from "./lettering.js";
import { HEIGHT, scene, WIDTH } from "./scene.js";
import { generator, svg } from "./svg.js";

const LONGEST = 36; // characters of a title
const LAYERS = ["shadow", "outline", "colour", "shine"]; // studio.css draws each with another pen

/** Draws the landscape of `seed` into the empty `picture`, an svg element. */
export function drawScene(picture, seed) {
  const { landscape, hour } = scene(seed);
  picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  picture.setAttribute("preserveAspectRatio", "xMidYMid slice");
  picture.replaceChildren(landscape);
  return hour;
}

/** The whole card; the lines of its title are laid over each other: a shadow, an outline, the colour, a shine. */
export function drawCard(picture, seed, text) {
  const { near, title } = drawScene(picture, seed);
  const letters = lettering(text, WIDTH - 240, HEIGHT - 370, generator(seed));
  letters.id = "lettering";
  const layers = LAYERS.map((layer) => svg("use", { href: "#lettering", class: layer }));
  const middle = `translate(${WIDTH / 2} ${HEIGHT * 0.4})`;
  picture.append(
    svg("defs", {}, letters),
    svg("g", { class: "lettering", transform: middle, color: near, fill: title, stroke: title }, ...layers),
  );
}

/** A title out of how an episode begins: its first words, without those of `weak` that a title can't end with. */
export function titleOf(opening, weak) {
  const words = opening.trim().split(/\s+/);
  let title = words.shift().slice(0, LONGEST);
  const fits = () => words.length && !/[.!?]$/.test(title) && title.length + 1 + words[0].length <= LONGEST;
  while (fits()) title += ` ${words.shift()}`;
  const kept = title.replace(/[.,;:]+$/, "").split(" ");
  while (kept.length > 1 && weak.has(kept.at(-1).toLowerCase())) kept.pop();
  return kept.join(" ");
}
