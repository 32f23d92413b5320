import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bestSoFar, Experiment, histogram, MOST_POINTS, outcomeRate, perBoard } from "./experiment";

function outcome(evaluation: string, data: Record<string, unknown>, event = "results") {
  const message = {
    at: "2026-11-22T17:07:44Z",
    data: {
      serial: "A1",
      evaluation,
      batch: "b",
      bitstream: "x.bin",
      sha256: "0",
      at: "2026-11-22T17:07:44Z",
      ...data,
    },
  };
  const ids = { event, reservation: "r", serial: "A1", user: "alice", sender: "w" };
  return [ids, new TextEncoder().encode(JSON.stringify(message))] as const;
}

const numbers = fc.array(fc.double({ noNaN: true, min: -1e6, max: 1e6 }), { minLength: 1 });

describe("given an experiment", () => {
  test("when an outcome is repeated, then it counts once", () => {
    const experiment = new Experiment();
    expect(experiment.take(...outcome("e1", { pulses: 7992, upload: 0.1 }))).toBe(true);
    expect(experiment.take(...outcome("e1", { pulses: 7992, upload: 0.1 }))).toBe(false);
    expect(experiment.countsOf("r")).toEqual({ results: 1, failures: 0 });
  });

  test("when results of a kind that is not known come, then their own numbers come first", () => {
    const experiment = new Experiment();
    experiment.take(...outcome("e1", { upload: 0.1, hertz: 12.5, exact: true }));
    expect(experiment.metrics).toEqual(["hertz", "upload"]);
  });

  test.each([
    ["one after the other", [0, 1, 2], 0],
    ["with two left out", [0, 1, 4], 2],
    ["of a worker that began anew", [7, 8, 0, 1], 0],
  ])("when events come %s, then so many were missed", (_, sequences, missed) => {
    const experiment = new Experiment();
    for (const sequence of sequences) {
      const [ids, payload] = outcome(`e${sequence}`, { pulses: 1 });
      const message = { ...JSON.parse(new TextDecoder().decode(payload)), sequence };
      experiment.take(ids, new TextEncoder().encode(JSON.stringify(message)));
    }
    expect(experiment.missed).toBe(missed);
  });

  test("when one fails, then the reason is kept", () => {
    const experiment = new Experiment();
    const error = { code: "measurement_failed", message: "no report in time" };
    experiment.take(...outcome("e1", { error }, "failures"));
    expect(experiment.failures).toMatchObject([{ serial: "A1", ...error }]);
    expect(experiment.countsOf("r")).toEqual({ results: 0, failures: 1 });
    expect(experiment.countsOf("another")).toEqual({ results: 0, failures: 0 });
  });

  test("when some are given up, then none has failed", () => {
    const experiment = new Experiment();
    const error = { code: "evaluation_withdrawn", message: "it was given up" };
    expect(experiment.take(...outcome("e1", { error }, "failures"))).toBe(false);
    expect(experiment.failures).toEqual([]);
  });

  test("when results come without end, then the newest are kept", () => {
    const experiment = new Experiment();
    for (let n = 0; n < 1.5 * MOST_POINTS; n += 1)
      experiment.take(...outcome(`e${n}`, { pulses: n }));
    expect(experiment.points.length).toBeLessThanOrEqual(1.1 * MOST_POINTS);
    expect(experiment.points.at(-1)?.values.pulses).toBe(1.5 * MOST_POINTS - 1);
    expect(experiment.countsOf().results).toBe(1.5 * MOST_POINTS);
  });
});

describe("given values", () => {
  test("when a histogram is made, then each falls into one bin", () => {
    fc.assert(
      fc.property(numbers, (values) => {
        const { counts, edges, width } = histogram(values);
        expect(counts.reduce((sum, each) => sum + each, 0)).toBe(values.length);
        expect(edges).toHaveLength(counts.length + 1);
        expect(width).toBeGreaterThan(0);
      }),
    );
  });

  test("when the best so far is followed, then it only gets better and ends with the best", () => {
    fc.assert(
      fc.property(numbers, (values) => {
        const best = bestSoFar(values, true);
        expect(best.at(-1)).toBe(Math.max(...values));
        for (const [n, each] of best.entries()) {
          expect(each).toBeGreaterThanOrEqual(best[n - 1] ?? each);
        }
      }),
    );
  });

  test("when boards are compared, then mean and spread are those of the values", () => {
    fc.assert(
      fc.property(numbers, (values) => {
        const points = values.map((pulses, n) => ({
          at: n,
          serial: "A",
          reservation: "r",
          batch: "b",
          bitstream: "x",
          evaluation: `${n}`,
          values: { pulses },
        }));
        const [summary] = perBoard(points, [], "pulses");
        const mean = values.reduce((sum, each) => sum + each, 0) / values.length;
        expect(summary?.mean).toBeCloseTo(mean, 4);
        expect(summary?.lowest).toBe(Math.min(...values));
        expect(summary?.highest).toBe(Math.max(...values));
      }),
    );
  });
});

test("given outcomes each 100 ms, when the rate is asked for, then it is ten a second", () => {
  const times = Array.from({ length: 100 }, (_, n) => n * 100);
  expect(outcomeRate(times, 10_000)).toBeCloseTo(10, 0);
  expect(outcomeRate([], 10_000)).toBeNull();
});
