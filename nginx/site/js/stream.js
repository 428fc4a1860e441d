// Server-sent events out of the body of a fetch. EventSource would hide a refusal's status and its words.
// Format: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

/** Yields {event, data} for each event of `body`, with its data read as JSON. Comments are left out. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = "message";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return; // an event without the blank line behind it is not complete
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield { event, data: JSON.parse(data.join("\n")) };
          event = "message";
          data = [];
        } else if (line.startsWith("event:")) {
          event = line.slice(6).trim();
        } else if (line.startsWith("data:")) {
          data.push(line.slice(5));
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // whoever stops listening also stops the server
  }
}
