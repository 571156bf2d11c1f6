// Masks as `crack infer` gives them, in JavaScript: for web services and apps that do not have Python.
//
//     crack export -o crack.onnx --embed-normalisation
//     cd examples/javascript && npm install
//     node infer.js crack.onnx photo.png mask.png [TILE LARGEST STRIDE THRESHOLD]
//
// The last four are those of the weights (tile, largest_tile, stride and threshold of the file's metadata); without them
// 512, 1024 and 32 px and 0.5. onnxruntime-web takes the same calls.

import { readFileSync, writeFileSync } from "node:fs";
import ort from "onnxruntime-node";
import { PNG } from "pngjs";

/** Where tiles of at most `most` px start along one side of a photo, and what each counts at each of its pixels. */
function plan(length, most, halo, stride) {
  const [units, most_, halo_] = [Math.ceil(length / stride), Math.floor(most / stride), Math.ceil(halo / stride)];
  const count = units <= most_ ? 1 : Math.ceil((units - halo_) / (most_ - halo_));
  const side = Math.ceil((units + (count - 1) * halo_) / count);
  const starts = [];
  for (let i = 0; i < count; i++) starts.push(Math.floor((i * (units - side)) / Math.max(count - 1, 1)) * stride);
  // Each tile takes over from the one before it, so that the weights sum to 1 at every pixel.
  const given = (index, pixel) => {
    if (index === 0) return 1;
    if (index === starts.length) return 0;
    const quarter = (starts[index - 1] + side * stride - starts[index]) / 4;
    const share = (pixel + 0.5 - starts[index] - quarter) / Math.max(2 * quarter, 1e-9);
    return 0.5 - 0.5 * Math.cos(Math.PI * Math.min(Math.max(share, 0), 1));
  };
  const weight = (index, pixel) => given(index, pixel) - given(index + 1, pixel);
  return {
    side: side * stride,
    tiles: starts.map((start, index) => ({
      start,
      weights: Float32Array.from({ length: side * stride }, (_, pixel) => weight(index, start + pixel)),
    })),
  };
}

/** RGB bytes of a tile of an RGBA picture; the last row and column are repeated beyond its end. */
function cut(picture, top, left, rows, columns) {
  const pixels = new Uint8Array(rows * columns * 3);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const row = Math.min(top + y, picture.height - 1);
      const from = 4 * (row * picture.width + Math.min(left + x, picture.width - 1));
      pixels.set(picture.data.subarray(from, from + 3), 3 * (y * columns + x));
    }
  }
  return pixels;
}

/** Crack probabilities of an RGBA picture, row by row. */
async function findCracks(session, picture, tile, largest, stride) {
  const { width, height } = picture;
  const probs = new Float32Array(width * height);
  const halo = Math.round(0.25 * tile);
  const tallest = Math.max(tile, Math.min(largest, Math.floor((10 * 2 ** 20) / width)));
  const [down, across] = [plan(height, tallest, halo, stride), plan(width, largest, halo, stride)];
  for (const row of down.tiles) {
    for (const column of across.tiles) {
      const pixels = cut(picture, row.start, column.start, down.side, across.side);
      const input = new ort.Tensor("uint8", pixels, [1, down.side, across.side, 3]);
      const found = (await session.run({ pixels: input })).probs.data;
      for (let y = 0; y < down.side && row.start + y < height; y++) {
        for (let x = 0; x < across.side && column.start + x < width; x++) {
          const at = (row.start + y) * width + column.start + x;
          probs[at] += found[y * across.side + x] * row.weights[y] * column.weights[x];
        }
      }
    }
  }
  return probs;
}

const [model, source, target, tile = 512, largest = 1024, stride = 32, threshold = 0.5] = process.argv.slice(2);
const session = await ort.InferenceSession.create(model);
const picture = PNG.sync.read(readFileSync(source));
const probs = await findCracks(session, picture, Number(tile), Number(largest), Number(stride));
const least = Math.ceil(256 * Number(threshold)); // crack infer, too, compares in 256 levels
const mask = new PNG({ width: picture.width, height: picture.height, colorType: 0 });
probs.forEach((p, at) => mask.data.fill(Math.min(Math.floor(256 * p), 255) >= least ? 255 : 0, 4 * at, 4 * at + 3));
for (let at = 3; at < mask.data.length; at += 4) mask.data[at] = 255;
writeFileSync(target, PNG.sync.write(mask, { colorType: 0, inputColorType: 6 }));
