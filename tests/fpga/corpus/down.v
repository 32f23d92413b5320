// Counts down and is loaded: 5,000 Hz.
module top (input CLK, output ICE_27);
    reg [23:0] c = 0;
    reg pulse = 0;
    always @(posedge CLK)
        if (c == 0) begin
            c <= 4799;
            pulse <= ~pulse;
        end else
            c <= c - 1;
    assign ICE_27 = pulse;
endmodule
