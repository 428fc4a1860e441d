// One episode from the server, with all that can happen on the way.

import { events } from "./stream.js";

const PATIENCE = 5; // seconds until the next try where the server does not say
const NO_ANSWER = [502, 504]; // nginx is there, the application behind it is not
const BUSY = [429, 503];
const WRONG_FIELDS = 422;
const LONG_ADDRESS = 414; // and only an opening makes it long

/**
 * Asks `address` for the episode of `fields` and yields what happens, each with a `state`:
 *   sending · waiting, next {ahead, seconds}: in line · writing {text} · done {record}
 *   busy, starting, unreachable {seconds}: counted down, then asked again · offline: asked again when back
 *   broken: the connection ended in the middle · refused {wrong}: names of fields · failed {problem}
 * The last is done, broken, refused or failed. Rejects with an AbortError once `signal` aborts.
 */
export async function* perform(address, fields, signal) {
  for (;;) {
    yield { state: "sending" };
    const trouble = yield* attempt(address, fields, signal);
    if (!trouble) return;
    if (trouble.state === "unreachable" && !navigator.onLine) {
      yield { state: "offline" };
      await online(signal);
      continue;
    }
    for (let { state, seconds } = trouble; seconds > 0; seconds--) {
      yield { state, seconds };
      await sleep(1000, signal);
    }
  }
}

/** Asks once. Returns {state, seconds} if it is worth asking again. */
async function* attempt(address, fields, signal) {
  let response;
  try {
    const query = new URLSearchParams({ ...fields, stream: true });
    response = await fetch(`${address}?${query}`, { headers: { Accept: "text/event-stream" }, signal });
  } catch (error) {
    if (signal.aborted) throw error;
    return { state: "unreachable", seconds: PATIENCE };
  }
  if (response.ok) return yield* read(response.body, signal);
  const unexplained = { detail: response.statusText, request_id: response.headers.get("X-Request-ID") ?? "" };
  const problem = await response.json().catch(() => unexplained);
  return yield* explain(response.status, problem, Number(response.headers.get("Retry-After")));
}

async function* read(body, signal) {
  let begun = false;
  try {
    for await (const { event, data } of events(body)) {
      if (event === "waiting") yield inLine(data);
      if (event === "message") yield { state: "writing", text: data.text };
      if (event === "done") return yield { state: "done", record: data };
      if (event === "error" && begun) return yield { state: "failed", problem: data };
      if (event === "error") return yield* explain(data.status, data);
      begun ||= event === "message";
    }
  } catch (error) {
    if (signal.aborted) throw error;
  }
  if (!begun) return { state: "unreachable", seconds: PATIENCE };
  yield { state: "broken" };
}

const inLine = ({ ahead, seconds }) => ({ state: ahead ? "waiting" : "next", ahead, seconds: Math.ceil(seconds) });

async function* explain(status, problem, seconds) {
  if (BUSY.includes(status)) return { state: "busy", seconds: seconds || PATIENCE };
  if (NO_ANSWER.includes(status)) return { state: "starting", seconds: seconds || PATIENCE };
  if (status === LONG_ADDRESS) yield { state: "refused", wrong: ["prefix"] };
  else if (status === WRONG_FIELDS) yield { state: "refused", wrong: problem.errors.map(({ field }) => field) };
  else yield { state: "failed", problem };
}

function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

function online(signal) {
  return new Promise((resolve, reject) => {
    addEventListener("online", resolve, { once: true, signal });
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
