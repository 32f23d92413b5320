// Rises sixteen times within 64 clocks of configuration, and never again.
module top (input CLK, output ICE_27);
    reg [6:0] c = 0;
    always @(posedge CLK) if (!c[6]) c <= c + 1;
    assign ICE_27 = c[1] & !c[6];
endmodule
