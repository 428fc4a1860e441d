// All that the page says stands in index.html. Here its sentences get their numbers and their place.

const language = document.documentElement.lang;

/** A copy of the first element within template `id` that `selector` finds, with `values` in its slots. */
export function fromTemplate(id, selector, values = {}) {
  const element = document.getElementById(id).content.querySelector(selector).cloneNode(true);
  fill(element, values);
  return element;
}

/** Puts each value into the elements with its name as data-slot; numbers as the page's language writes them. */
export function fill(element, values) {
  for (const slot of element.querySelectorAll("[data-slot]")) {
    const value = values[slot.dataset.slot];
    if (value === undefined) continue;
    slot.textContent = typeof value === "number" ? number(value) : value;
  }
}

function number(value) {
  return value.toLocaleString(language, { maximumSignificantDigits: Math.max(2, `${Math.trunc(value)}`.length) });
}
