// Rises at the first clock after configuration, and never again.
module top (input CLK, output ICE_27);
    reg q = 0;
    always @(posedge CLK) q <= 1;
    assign ICE_27 = q;
endmodule
