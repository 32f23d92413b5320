// 3,000 Hz by a 32-bit divider.
module top (input CLK, output ICE_27);
    reg [31:0] c = 0;
    reg pulse = 0;
    always @(posedge CLK)
        if (c == 7999) begin
            c <= 0;
            pulse <= ~pulse;
        end else
            c <= c + 1;
    assign ICE_27 = pulse;
endmodule
