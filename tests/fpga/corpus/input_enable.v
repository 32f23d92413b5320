// A divider whose flip-flops are enabled by a pin on which nothing is connected.
module top (input CLK, input IN, output ICE_27);
    reg [11:0] c = 0;
    always @(posedge CLK) if (IN) c <= c + 1;
    assign ICE_27 = c[11];
endmodule
