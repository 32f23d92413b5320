import { describe, expect, test } from "vitest";
import type { LogRecord } from "../bus/messages";
import { aboutBoard, Logs, MOST_LOGS, matchesLine, rank } from "./logs";

function record(number: number, more: Partial<LogRecord> = {}): LogRecord {
  return {
    id: `a-${number}`,
    at: number,
    level: "info",
    logger: "icebus.worker",
    message: `line ${number}`,
    fields: {},
    traceback: [],
    ...more,
  };
}

const said = (logs: Logs, component = ""): string[] =>
  logs.latest(component).map((line) => line.record.message);

describe("given lines of components", () => {
  test("when one is told twice, then it is there once, and all are in order", () => {
    const logs = new Logs();
    expect(logs.take("worker", "w1", [record(3)])).toBe(true);
    expect(logs.take("worker", "w1", [record(1), record(2), record(3)])).toBe(true);
    expect(logs.take("worker", "w1", [record(2)])).toBe(false);
    expect(logs.take("control", "main", [record(2)])).toBe(true);
    expect(said(logs)).toEqual(["line 3", "line 2", "line 2", "line 1"]);
    expect(said(logs, "control/main")).toEqual(["line 2"]);
    expect(logs.names).toEqual(["control/main", "worker/w1"]);
  });

  test("when one floods, then it is bounded and crowds out no other", () => {
    const logs = new Logs();
    logs.take("control", "main", [record(0, { message: "of control" })]);
    for (let number = 0; number < 20 * MOST_LOGS; number += 1) {
      logs.take("worker", "stolen", [record(number, { message: "x".repeat(50_000) })]);
    }
    expect(said(logs, "control/main")).toEqual(["of control"]);
    expect(said(logs).length).toBeLessThan(1.2 * MOST_LOGS);
    expect(said(logs)[0]?.length).toBeLessThan(2000);
  });

  test("when a message would move or turn text around, then that is seen and not done", () => {
    const logs = new Logs();
    logs.take("worker", "w1", [record(1, { message: "a\n\u001b[2J\u202eb\u2028c" })]);
    expect(said(logs)).toEqual(["a\uFFFD\uFFFD[2J\uFFFDb\uFFFDc"]);
  });

  test("when words are looked for, then all of them have to be there", () => {
    const logs = new Logs();
    logs.take("worker", "w1", [record(1, { fields: { evaluation: "e7" } })]);
    const [line] = logs.latest();
    if (line === undefined) throw new Error("no line");
    expect(matchesLine(line, "W1 e7 line")).toBe(true);
    expect(matchesLine(line, "line e8")).toBe(false);
    expect(matchesLine(line, "")).toBe(true);
  });

  test("when a worker tells a holder of a board that is another's, then it is not shown there", () => {
    const logs = new Logs();
    const about = { reservation: "r1", serial: "B1" };
    logs.take("worker", "w1", [record(1)], about);
    logs.take("worker", "stolen", [record(1)], about);
    expect(logs.latest().filter((line) => aboutBoard(line, "B1", "w1"))).toHaveLength(1);
    expect(logs.latest().filter((line) => aboutBoard(line, "B2", "w1"))).toHaveLength(0);
  });
});

test("given levels, then what matters more is higher, and unknown ones are low", () => {
  expect(rank("error")).toBeGreaterThan(rank("warning"));
  expect(rank("warning")).toBeGreaterThan(rank("info"));
  expect(rank("anything")).toBe(0);
});
