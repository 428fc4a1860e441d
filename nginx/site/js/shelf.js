// The list of the last episodes, each with the landscape of its seed.

import { drawScene } from "./card.js";
import { onClick } from "./links.js";
import { permalink } from "./permalink.js";
import { forget, forgetAll, recent } from "./recent.js";
import { fromTemplate } from "./words.js";

const shelf = document.getElementById("shelf");
const list = shelf.querySelector("ol");

/** Draws the list anew. onOpen gets the episode that the reader takes from it; titled makes the title of one. */
export function drawShelf(titled, onOpen) {
  const episodes = recent();
  shelf.hidden = episodes.length === 0;
  list.replaceChildren(...episodes.map((episode) => entry(episode, titled(episode.fields.prefix), onOpen, redraw)));
  shelf.querySelector("#forget-all").onclick = () => (forgetAll(), redraw(0));

  /** After entry `removed` is gone, the focus goes to the one in its place. */
  function redraw(removed) {
    drawShelf(titled, onOpen);
    const buttons = list.querySelectorAll("button");
    (buttons[Math.min(removed, buttons.length - 1)] ?? document.getElementById("prefix")).focus();
  }
}

function entry(episode, title, onOpen, redraw) {
  const item = fromTemplate("shelf-entry", "li", { title, seed: episode.fields.seed });
  drawScene(item.querySelector("svg"), Number(episode.fields.seed));
  const link = item.querySelector("a");
  link.href = permalink(episode.fields);
  onClick(link, () => onOpen(episode));
  item.querySelector("button").addEventListener("click", () => {
    const place = [...list.children].indexOf(item);
    forget(episode.fields);
    redraw(place);
  });
  return item;
}
