import { describe, expect, test } from "vitest";
import { axisTime } from "./format";

describe("given a moment on an axis", () => {
  const at = new Date(2026, 10, 28, 8, 5, 7, 42).getTime() / 1000;
  test.each([
    [86_400, "2026-11-28"],
    [3600, "08:05"],
    [60, "08:05"],
    [1, "08:05:07"],
    [0.001, "08:05:07.042"],
  ])("when marks are %d s apart, then it reads %s", (step, shown) => {
    expect(axisTime(at, step)).toBe(shown);
  });
});
