// The form: what the reader asks for, the words beside its sliders, and what the server says about a field.

import { onClick } from "./links.js";
import { fill, fromTemplate } from "./words.js";

const form = document.querySelector("form");
const [prefix, length, temperature] = ["prefix", "length", "temperature"].map((id) => document.getElementById(id));
const inputs = { prefix, length, temperature };

/** The fields as text; where the opening is empty, the server has one. */
export function asked() {
  return { ...Object.fromEntries(new FormData(form)), prefix: prefix.value.trim() };
}

/** Sets those that are given; a slider takes the nearest that it has. */
export function setForm(fields) {
  for (const [name, value] of Object.entries(fields)) {
    if (inputs[name]) inputs[name].value = value;
  }
  describe();
}

/** onWrite: the form is sent. onChange: the opening is another. */
export function watchForm(onWrite, onChange) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (matchMedia("(pointer: coarse)").matches) prefix.blur(); // its keyboard would cover the text
    onWrite();
  });
  form.addEventListener("input", (event) => {
    clearErrors();
    describe();
    if (event.target === prefix) onChange();
  });
  prefix.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  for (const example of document.querySelectorAll(".examples a")) {
    onClick(example, () => {
      setForm({ prefix: example.textContent });
      onChange();
      form.requestSubmit();
    });
  }
  describe();
}

/** Says at each of these fields that it can't be so. False if the form shows none of them. */
export function showErrors(fields) {
  const ours = fields.filter((field) => inputs[field]);
  for (const field of ours) {
    const place = document.getElementById(`${field}-error`);
    place.replaceChildren(fromTemplate("errors", `[data-field="${field}"]`));
    place.hidden = false;
    inputs[field].ariaInvalid = "true";
  }
  if (ours.length) inputs[ours[0]].focus();
  return ours.length > 0;
}

export function clearErrors() {
  for (const input of Object.values(inputs)) {
    document.getElementById(`${input.name}-error`).hidden = true;
    input.ariaInvalid = null;
  }
}

/** Beside each slider, in words, what its place means; a screen reader gets the words in place of the number. */
function describe() {
  for (const input of [length, temperature]) {
    const output = document.querySelector(`output[for="${input.id}"]`);
    const grades = [...output.querySelectorAll("[data-from]")];
    const grade = grades.findLast((span) => Number(input.value) >= Number(span.dataset.from));
    for (const span of grades) span.hidden = span !== grade;
    const words = Math.round((Number(input.value) * Number(output.dataset.wordsPerToken)) / 10) * 10;
    fill(output, { words });
    input.ariaValueText = grade.textContent;
  }
}
