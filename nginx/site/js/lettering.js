// The title's letters, drawn with one round pen: capitals 100 units high, as lines of SVG. No font, so that a title
// card is the same on every machine.

import { svg } from "./svg.js";

// Of each character: how wide it is, and its line.
const LETTERS = {
  A: [76, "M0 100 38 0 76 100M16 64H60"],
  B: [62, "M32 46H0V0H32a23 23 0 0 1 0 46h4a27 27 0 0 1 0 54H0V46"],
  C: [68, "M68 15A40 50 0 1 0 68 85"],
  D: [72, "M0 0V100H22A50 50 0 0 0 22 0Z"],
  E: [52, "M52 0H0V100H52M0 49H44"],
  F: [50, "M50 0H0V100M0 50H42"],
  G: [76, "M70 16A40 50 0 1 0 76 76V54H48"],
  H: [66, "M0 0V100M66 0V100M0 50H66"],
  I: [0, "M0 0V100"],
  J: [46, "M46 0V70A23 30 0 0 1 0 72"],
  K: [62, "M0 0V100M60 0 2 58M22 40 62 100"],
  L: [48, "M0 0V100H48"],
  M: [90, "M0 100V0L45 62 90 0V100"],
  N: [68, "M0 100V0L68 100V0"],
  O: [84, "M42 0A42 50 0 1 0 42 100 42 50 0 1 0 42 0Z"],
  P: [60, "M0 100V0H32a28 28 0 0 1 0 56H0"],
  Q: [84, "M42 0A42 50 0 1 0 42 100 42 50 0 1 0 42 0ZM54 70 86 106"],
  R: [64, "M0 100V0H34a28 28 0 0 1 0 56H0M32 56 64 100"],
  S: [58, "M55 15C44-6 3-4 3 26 3 54 57 44 57 74 57 106 10 106 0 82"],
  T: [68, "M0 0H68M34 0V100"],
  U: [68, "M0 0V64A34 36 0 0 0 68 64V0"],
  V: [76, "M0 0 38 100 76 0"],
  W: [108, "M0 0 27 100 54 22 81 100 108 0"],
  X: [70, "M0 0 70 100M70 0 0 100"],
  Y: [72, "M0 0 36 50 72 0M36 50V100"],
  Z: [64, "M2 0H64L0 100H64"],
  0: [70, "M35 0A35 50 0 1 0 35 100 35 50 0 1 0 35 0Z"],
  1: [26, "M0 18 26 0V100"],
  2: [60, "M2 28C2-8 58-10 58 28 58 52 10 74 0 100H60"],
  3: [58, "M2 12C20-8 54-4 54 24 54 44 38 48 24 48 40 48 58 54 58 74 58 104 18 108 0 86"],
  4: [66, "M48 100V0L0 70H66"],
  5: [58, "M54 0H8L4 44C26 32 58 40 58 68 58 104 18 108 0 88"],
  6: [62, "M50 2C20 10 0 40 0 68A31 32 0 1 0 31 38C16 38 4 50 0 62"],
  7: [58, "M0 0H58L20 100"],
  8: [60, "M30 46a23 23 0 1 1 1 0A27 27 0 1 1 30 46Z"],
  9: [62, "M12 98C42 90 62 60 62 32A31 32 0 1 0 31 62C46 62 58 50 62 38"],
  ".": [0, "M0 99V100"],
  ",": [6, "M6 97 0 116"],
  ":": [0, "M0 40V41M0 97V98"],
  ";": [6, "M6 40V41M6 97 0 116"],
  "!": [0, "M0 0V64M0 99V100"],
  "?": [56, "M0 22C4-8 56-8 56 24 56 48 28 44 28 68M28 99V100"],
  "'": [4, "M4 0 0 24"],
  '"': [26, "M4 0 0 24M26 0 22 24"],
  "-": [34, "M0 56H34"],
  "…": [72, "M0 99V100M36 99V100M72 99V100"],
  "&": [72, "M72 100 16 30C6 14 16-2 32 0 50 2 50 24 36 34L14 50C-10 68 2 102 30 100 54 98 64 74 66 56"],
};
const ALIKE = { "’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-" };

const PEN = 30; // as wide as the line is
const GAP = 16; // between two lines
const SPACE = 50;
const LEADING = 176; // from one base line to the next

/** A group with `text` in at most three lines, as large as fits into width by height, around (0, 0). */
export function lettering(text, width, height, random) {
  const lines = bestLines(text.toUpperCase().split(" "), width, height);
  const size = scale(lines, width, height);
  const group = svg("g", { transform: `scale(${size.toFixed(3)}) rotate(-3)` });
  lines.forEach((line, row) => {
    let x = -measure(line) / 2;
    const y = (row - lines.length / 2) * LEADING + (LEADING - 100) / 2;
    for (const character of line) {
      if (character === " ") {
        x += SPACE;
        continue;
      }
      const tilt = (random() - 0.5) * 7;
      const place = `translate(${x + PEN / 2} ${y + (random() - 0.5) * 8}) rotate(${tilt.toFixed(1)} 35 50)`;
      group.append(glyph(character, place));
      x += advance(character);
    }
  });
  return group;
}

function glyph(character, transform) {
  const [, line] = letter(character) ?? [];
  if (line) return svg("path", { d: line, transform });
  return svg("text", { transform, y: 100, "font-size": 125 }, character); // another script's: the machine's own
}

/** What a letter with an accent lacks, its plain form has: É is drawn as E. */
function letter(character) {
  const plain = ALIKE[character] ?? character;
  return LETTERS[plain] ?? LETTERS[plain.normalize("NFD")[0]];
}

const advance = (character) => (character === " " ? SPACE : (letter(character)?.[0] ?? 110) + PEN + GAP);
const measure = (line) => [...line].reduce((sum, character) => sum + advance(character), -GAP);

function scale(lines, width, height) {
  return Math.min(width / Math.max(...lines.map(measure)), height / (lines.length * LEADING), 2.2);
}

/** Of all ways to break the words into one, two or three lines, the one that can be drawn largest. */
function bestLines(words, width, height) {
  const ways = [[words]];
  for (let i = 1; i < words.length; i++) {
    ways.push([words.slice(0, i), words.slice(i)]);
    for (let j = i + 1; j < words.length; j++) ways.push([words.slice(0, i), words.slice(i, j), words.slice(j)]);
  }
  const candidates = ways.map((way) => way.map((line) => line.join(" ")));
  return candidates.reduce((best, lines) => (scale(lines, width, height) > scale(best, width, height) ? lines : best));
}
