// An episode's address: with the same model, the same fields bring back the same text, for the server's random numbers
// are keyed by its seed.

const NAMES = ["prefix", "seed", "length", "temperature", "top_k", "top_p"];

export const newSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** The fields that an address has, as they are written there. */
export function fieldsOf(address) {
  const query = new URL(address).searchParams;
  return Object.fromEntries(NAMES.filter((name) => query.has(name)).map((name) => [name, query.get(name)]));
}

export const areFields = (fields) => NAMES.every((name) => typeof fields?.[name] === "string");

export function permalink(fields) {
  const query = new URLSearchParams(NAMES.map((name) => [name, fields[name]]));
  return `${location.origin}/?${query}`;
}
