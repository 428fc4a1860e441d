// The landscape of a title card, made up from a seed: an hour of the day, a sky in rings of colour around its sun, hills
// one behind the other, and somebody on the way.

import { generator, svg } from "./svg.js";

export const WIDTH = 1600;
export const HEIGHT = 800;

// From dawn to night, and a storm. sky: at its edge. glow: around the sun. near: the closest hill and all who stand on
// it. title: the lettering.
const HOURS = [
  { sky: "#7a6fb0", glow: "#ffd3a8", sun: "#fff3d6", near: "#2f2450", title: "#fff1c9" },
  { sky: "#3f9fd0", glow: "#d8f3ea", sun: "#fffbe0", near: "#15514d", title: "#fffbe6" },
  { sky: "#1f7fc4", glow: "#a9e3f2", sun: "#ffffff", near: "#1d5a2f", title: "#fff6b8" },
  { sky: "#e08a3c", glow: "#ffe6a0", sun: "#fffbe8", near: "#6a2f1c", title: "#fff8dc" },
  { sky: "#4a2a6e", glow: "#ff9a62", sun: "#ffe1a6", near: "#23123c", title: "#ffe9b5" },
  { sky: "#0b1740", glow: "#3f6aa8", sun: "#f6f1d2", near: "#050b20", title: "#eaf4ff", dark: true },
  { sky: "#3d4c63", glow: "#a3b4bd", sun: "#d7dfdf", near: "#1a2530", title: "#f3fbff", rain: true },
];
const RINGS = 8;
const HILLS = 4;

/** {landscape, hour}: a group WIDTH by HEIGHT, and which colours it has. */
export function scene(seed) {
  const random = generator(seed);
  const between = (low, high) => low + (high - low) * random();
  const pick = (list) => list[Math.floor(random() * list.length)];

  const hour = pick(HOURS);
  const [x, y] = [between(250, 1350), between(120, 420)];
  const landscape = svg("g", {}, ...sky(hour, x, y));
  if (hour.dark) landscape.append(stars(between));
  landscape.append(hour.dark ? moon(hour, x, y) : svg("circle", { cx: x, cy: y, r: between(60, 110), fill: hour.sun }));
  for (let i = 0; i < 4; i++) landscape.append(cloud(hour, between));
  landscape.append(birds(hour, between));

  const jagged = random() < 0.4;
  const sea = random() < 0.35;
  let ground;
  for (let depth = 1; depth <= HILLS; depth++) {
    const share = depth / HILLS;
    const fill = mix(hour.near, hour.glow, share ** 1.3);
    const base = 420 + 280 * share;
    if (sea && depth === 2) {
      landscape.append(...water(hour, x, base, between));
      continue;
    }
    ground = ridge(base, 110 - 75 * share, jagged && depth < 3, between);
    landscape.append(svg("path", { d: `M0 ${HEIGHT}L${outline(ground)}L${WIDTH} ${HEIGHT}Z`, fill }));
    if (depth === 3) landscape.append(...trees(ground, fill, pick, between));
  }
  landscape.append(...pick([poles, woods, landmark])(ground, hour.near, between, pick));
  landscape.append(...walkers(ground, hour.near, between));
  if (hour.rain) landscape.append(rain(between));
  return { landscape, hour };
}

const pen = (stroke, width) => ({ fill: "none", stroke, "stroke-width": width, "stroke-linecap": "round" });
const mix = (a, b, share) => `color-mix(in oklab, ${a} ${Math.round(share * 100)}%, ${b})`;

function sky(hour, x, y) {
  const rings = [svg("rect", { width: WIDTH, height: HEIGHT, fill: hour.sky })];
  for (let ring = 1; ring < RINGS; ring++) {
    const share = ring / (RINGS - 1);
    const r = 1250 * (1 - share) ** 1.2 + 130;
    rings.push(svg("circle", { cx: x, cy: y, r, fill: mix(hour.glow, hour.sky, share) }));
  }
  return rings;
}

function stars(between) {
  const points = Array.from({ length: 60 }, () => `M${Math.round(between(0, WIDTH))} ${Math.round(between(0, 420))}h0`);
  return svg("path", { d: points.join(""), ...pen("#fff", 4), opacity: 0.8 });
}

function moon(hour, x, y) {
  return svg("path", { d: `M${x} ${y - 80}a80 80 0 1 0 80 80a62 62 0 0 1-80-80Z`, fill: hour.sun });
}

function cloud(hour, between) {
  const [x, y] = [between(-100, WIDTH), between(60, 380)];
  const group = svg("g", { fill: mix(hour.sun, hour.glow, 0.55), opacity: hour.dark ? 0.18 : 0.75 });
  for (let i = 0; i < 3; i++) {
    const width = between(120, 340);
    group.append(svg("rect", { x: x + between(-80, 80), y: y + i * 24, width, height: 24, rx: 12 }));
  }
  return group;
}

function birds(hour, between) {
  const [x, y] = [between(150, 1300), between(150, 330)];
  const wings = Array.from({ length: 4 }, (_, i) => `M${x + i * 46} ${y + between(-30, 30)}q10-14 20 0q10-14 20 0`);
  return svg("path", { d: wings.join(""), ...pen(hour.near, 4) });
}

function water(hour, x, base, between) {
  const lights = Array.from({ length: 9 }, (_, i) => {
    const width = between(30, 200);
    return `M${x - width / 2 + between(-60, 60)} ${base + 18 + i * 17}h${width}`;
  });
  return [
    svg("rect", { y: base, width: WIDTH, height: HEIGHT, fill: mix(hour.sky, hour.glow, 0.6) }),
    svg("path", { d: lights.join(""), ...pen(hour.sun, 6), opacity: 0.7 }),
  ];
}

/** How high the land is: a function of x. Jagged ones are made of straight slopes. */
function ridge(base, height, jagged, between) {
  const waves = [500, 230, 110].map((length) => ({ length: length * between(0.8, 1.3), phase: between(0, 7) }));
  const wave = jagged ? (angle) => Math.asin(Math.sin(angle)) / 1.57 : Math.sin;
  return (x) =>
    waves.reduce((y, { length, phase }, i) => y - (height / 2 ** i) * wave((x / length) * 3 + phase), base);
}

function outline(ground) {
  const points = [];
  for (let x = 0; x <= WIDTH; x += 16) points.push(`${x} ${ground(x).toFixed(1)}`);
  return points.join("L");
}

function trees(ground, fill, pick, between) {
  const draw = pick([fir, leafy]);
  return Array.from({ length: 14 }, () => {
    const x = between(0, WIDTH);
    return svg("path", { d: draw, fill, transform: `translate(${x} ${ground(x) + 6}) scale(${between(0.4, 0.8)})` });
  });
}
const fir = "M0-150 32-90H16L42-44H8V0H-8V-44H-42L-16-90H-32Z";
const leafy = "M-7 0V-50A44 44 0 1 1 7-50V0Z";

function woods(ground, fill, between, pick) {
  const edge = pick([0, 1100]);
  return Array.from({ length: 9 }, () => {
    const x = edge + between(0, 500);
    return svg("path", { d: fir, fill, transform: `translate(${x} ${ground(x) + 8}) scale(${between(0.9, 1.7)})` });
  });
}

/** Telegraph poles along the road, with their wires. */
function poles(ground, stroke, between) {
  const tops = [];
  const lines = [];
  for (let x = between(-100, 60); x < WIDTH + 300; x += 290) {
    const y = ground(Math.min(x, WIDTH));
    lines.push(`M${x} ${y}V${y - 210}M${x - 34} ${y - 190}h68M${x - 26} ${y - 160}h52`);
    tops.push([x, y - 190]);
  }
  for (let i = 1; i < tops.length; i++) {
    const [[x, y], [X, Y]] = [tops[i - 1], tops[i]];
    lines.push(`M${x - 30} ${y}Q${(x + X) / 2 - 30} ${(y + Y) / 2 + 50} ${X - 30} ${Y}`);
    lines.push(`M${x + 30} ${y}Q${(x + X) / 2 + 30} ${(y + Y) / 2 + 50} ${X + 30} ${Y}`);
  }
  return [svg("path", { d: lines.join(""), fill: "none", stroke, "stroke-width": 6 })];
}

/** A mill, a lighthouse or a house with smoke. */
function landmark(ground, fill, between, pick) {
  const x = pick([between(120, 420), between(1180, 1480)]);
  const d = pick([
    "M-34 0-22-150H22L34 0ZM-4-150-70-250-50-262 4-156ZM4-154 104-212 114-192 4-146ZM4-150 70-50 50-38-4-144ZM-4-146-104-88-114-108-4-154Z",
    "M-30 0-18-190H-28V-206H-18V-236L0-256 18-236V-206H28V-190H18L30 0Z",
    "M-80 0V-70H-96L0-150 52-107V-140H74V-88L96-70H80V0Z",
  ]);
  return [svg("path", { d, fill, transform: `translate(${x} ${ground(x) + 10})` })];
}

/** One to three people on the way, and an animal that goes with them. */
function walkers(ground, fill, between) {
  const count = Math.ceil(between(0, 3));
  const start = between(500, 1000);
  const figures = Array.from({ length: count }, (_, i) => {
    const x = start + i * 74;
    return svg("path", { d: PERSON, transform: `translate(${x} ${ground(x) + 3}) scale(${between(1, 1.25)})` });
  });
  const x = start + count * 74 + 10;
  figures.push(svg("path", { d: ANIMAL, transform: `translate(${x} ${ground(x) + 3})` }));
  return [svg("g", { fill, stroke: fill, "stroke-width": 3, "stroke-linejoin": "round" }, ...figures)];
}
const PERSON =
  "M-3-70a10 10 0 1 1 6 0L10-62 12-44 22-34 19-31 8-39 7-28 16-2 9 0 0-22-9 0-16-2-7-28-8-36-12-36Q-20-36-20-50T-10-63Z";
const ANIMAL = "M-30-30Q-44-44-36-54-32-40-22-30H6L8-44 14-36H22L28-44 29-28Q28-20 18-18L16 0H10V-14H-14V0H-20V-16Q-28-20-22-30Z";

function rain(between) {
  const place = () => `${Math.round(between(0, 1650))} ${Math.round(between(-40, HEIGHT))}`;
  const drops = Array.from({ length: 90 }, () => `M${place()}l-14 44`);
  return svg("path", { d: drops.join(""), ...pen("#fff", 3), opacity: 0.35 });
}
