// A prescaler enables a counter: 1,000 Hz.
module top (input CLK, output ICE_27);
    reg [5:0] p = 0;
    reg [9:0] c = 0;
    reg pulse = 0;
    wire tick = p == 47;
    always @(posedge CLK) begin
        p <= tick ? 0 : p + 1;
        if (tick) c <= c == 499 ? 0 : c + 1;
        if (tick && c == 0) pulse <= ~pulse;
    end
    assign ICE_27 = pulse;
endmodule
