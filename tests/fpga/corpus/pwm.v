// Compares by carry chains: 1,000 Hz.
module top (input CLK, output ICE_27);
    reg [15:0] c = 0;
    always @(posedge CLK) c <= c >= 47999 ? 0 : c + 1;
    assign ICE_27 = c < 1000;
endmodule
