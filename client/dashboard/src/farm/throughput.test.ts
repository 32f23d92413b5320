import fc from "fast-check";
import { expect, test } from "vitest";
import { minutesSince, summary } from "./throughput";

const count = fc.option(fc.nat(1e7));

test("given any counts, when they are read, then rates are per second and shares percent", () =>
  fc.assert(
    fc.property(fc.array(fc.tuple(count, count), { maxLength: 100 }), (counts) => {
      const told = {
        began: 0,
        results: counts.map(([results]) => results),
        failures: counts.map(([, failures]) => failures),
      };
      const { at, results, failing } = minutesSince(told, 0);
      expect([at.length, results.length, failing.length]).toEqual(Array(3).fill(counts.length));
      for (const [n, [some, failed]] of counts.entries()) {
        expect(results[n] ?? null).toEqual(some === null ? null : some / 60);
        const share = failing[n] ?? null;
        if (some === null || failed === null || some + failed === 0) expect(share).toBeNull();
        else expect(share).toBeCloseTo((100 * failed) / (some + failed));
      }
    }),
  ));

test("given six minutes, when the last two are asked for, then older ones are left out", () => {
  const told = { began: 0, results: [1, 2, 3, 4, 5, 6], failures: [0, 0, 0, 0, 0, 0] };
  expect(minutesSince(told, 240).at).toEqual([210, 270, 330]);
});

test("given nothing, when it is read, then there is nothing", () => {
  expect(minutesSince(null, 0).at).toEqual([]);
  expect(summary([null])).toBeNull();
  expect(summary([1, null, 3])).toEqual({ highest: 3, mean: 2 });
});
