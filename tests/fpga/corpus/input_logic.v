// Two pins on which nothing is connected, one through a register, decide which bit is seen.
module top (input CLK, input IN, input IN2, output ICE_27);
    reg [9:0] c = 0;
    reg in = 0;
    always @(posedge CLK) begin
        c <= c + 1;
        in <= IN;
    end
    assign ICE_27 = in & !IN2 ? c[3] : c[9];
endmodule
