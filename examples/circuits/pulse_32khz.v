// 32,000 pulses a second: the output changes every 750 cycles of 48 MHz.
module top (
    input  CLK,
    output ICE_27
);
    localparam HALF = 750;

    reg [$clog2(HALF)-1:0] count = 0;
    reg pulse = 0;

    always @(posedge CLK)
        if (count == HALF - 1) begin
            count <= 0;
            pulse <= ~pulse;
        end else begin
            count <= count + 1;
        end

    assign ICE_27 = pulse;
endmodule
