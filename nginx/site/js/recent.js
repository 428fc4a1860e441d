// The last few episodes, kept in this browser. A browser that keeps nothing (a private window, a full disk) has none.

import { areFields, permalink } from "./permalink.js";

const KEY = "pokegen.episodes";
const MOST = 6;

/** Newest first: [{fields, text}]. */
export function recent() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY));
    return kept.filter((episode) => typeof episode?.text === "string" && areFields(episode.fields));
  } catch {
    return [];
  }
}

export function remember(episode) {
  keep([episode, ...without(episode.fields)].slice(0, MOST));
}

export function forget(fields) {
  keep(without(fields));
}

export function forgetAll() {
  keep([]);
}

function without(fields) {
  return recent().filter((episode) => permalink(episode.fields) !== permalink(fields));
}

function keep(episodes) {
  try {
    if (episodes.length) localStorage.setItem(KEY, JSON.stringify(episodes));
    else localStorage.removeItem(KEY);
  } catch {
    // nothing is kept, and nothing is lost but the list
  }
}
