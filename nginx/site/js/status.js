// What is going on: a sentence for the eye that may change every moment, and the same, once, for a screen reader.

import { fill, fromTemplate } from "./words.js";

const shown = document.getElementById("status");
const spoken = document.getElementById("spoken");
const episode = document.getElementById("episode");
const dependent = document.querySelectorAll("[data-when]"); // elements that are there in some states only
const pressed = ["sending", "stopped"]; // follow the press of a button that is gone then
let current = "";

/** Shows the sentence of `state`, with its numbers; said aloud when the state is a new one, and `read` after it. */
export function report(state, values = {}, read = "") {
  if (state === current) return fill(shown, values);
  current = state;
  document.body.dataset.state = state;
  shown.replaceChildren(sentence(state, values));
  speak(`${spokenSentence(state, values)} ${read}`);
  const focused = document.activeElement;
  for (const element of dependent) element.hidden = !element.dataset.when.split(" ").includes(state);
  if (!focused?.hidden) return;
  // What ends by itself puts no other button under the finger that was about to press this one.
  const next = pressed.includes(state) ? focused.parentElement.querySelector("button:not([hidden])") : episode;
  next.focus({ preventScroll: true });
}

/** For a screen reader alone. */
export function speak(text) {
  spoken.textContent = text;
}

function spokenSentence(state, values) {
  const copy = sentence(state, values);
  for (const fleeting of copy.querySelectorAll("[aria-hidden]")) fleeting.remove();
  return copy.textContent;
}

function sentence(state, values) {
  return fromTemplate("states", `[data-state="${state}"]`, values);
}
