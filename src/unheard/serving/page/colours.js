// Colour maps as 256 RGB triples, interpolated between anchors of matplotlib's magma and viridis, and colours of groups.

const MAGMA = ["000004", "140e36", "3b0f70", "641a80", "8c2981", "b73779", "de4968", "f7705c", "fe9f6d", "fecf92", "fcfdbf"];
const VIRIDIS = ["440154", "482475", "414487", "355f8d", "2a788e", "21918c", "22a884", "44bf70", "7ad151", "bddf26", "fde725"];

const channels = (hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));

function table(anchors) {
  const points = anchors.map(channels);
  return Array.from({ length: 256 }, (_, index) => {
    const place = (index / 255) * (points.length - 1);
    const low = Math.min(Math.floor(place), points.length - 2);
    return points[low].map((value, channel) => Math.round(value + (points[low + 1][channel] - value) * (place - low)));
  });
}

export const magma = table(MAGMA);
export const viridis = table(VIRIDIS);

// Groups: hues of the golden angle, readable on light and dark ground.
export const groupColour = (number) => `hsl(${(number * 137.5 + 210) % 360} 65% ${[48, 58, 40][number % 3]}%)`;
